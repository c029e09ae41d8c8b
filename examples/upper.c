/* upper: a-z become A-Z, each piece as it comes. */
#include "uk.h"

UK_FILTER();

static char buffer[65536];

int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (size_t n; (n = uk_read(buffer, sizeof buffer)) > 0;) {
        for (size_t i = 0; i < n; i++)
            if (buffer[i] >= 'a' && buffer[i] <= 'z')
                buffer[i] = (char)(buffer[i] - 32);
        uk_write(buffer, n);
    }
    return 0;
}
