/* stats: count, mean, standard deviation (of the sample), least and greatest of the numbers in the
 * input. */
#include "uk.h"

UK_FILTER();

static double root(double v)
{
    __asm__("sqrtsd %0, %0" : "+x"(v));
    return v;
}

/* The next number, as 12, -3.5 or .25; false at end of file. Anything else ends the program. */
static bool next(double *value)
{
    int c = uk_getc();
    while (c == ' ' || c == '\n' || c == '\t' || c == '\r')
        c = uk_getc();
    if (c < 0)
        return false;
    double v = 0, scale = 1;
    bool negative = c == '-', point = false, digits = false;
    if (negative)
        c = uk_getc();
    for (; (c >= '0' && c <= '9') || (c == '.' && !point); c = uk_getc()) {
        if (c == '.') {
            point = true;
            continue;
        }
        digits = true;
        v = 10 * v + (c - '0');
        if (point)
            scale *= 10;
    }
    if (!digits || (c >= 0 && c != ' ' && c != '\n' && c != '\t' && c != '\r')) {
        eprintf("stats: not a number\n");
        uk_halt(1);
    }
    *value = (negative ? -v : v) / scale;
    return true;
}

int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    unsigned long n = 0;
    double mean = 0, squares = 0, least = 0, most = 0;
    for (double v; next(&v);) { /* Welford's method: no large sums */
        double d = v - mean;
        mean += d / (double)++n;
        squares += d * (v - mean);
        least = n == 1 || v < least ? v : least;
        most = n == 1 || v > most ? v : most;
    }
    double deviation = n > 1 ? root(squares / (double)(n - 1)) : 0;
    printf("n %lu mean %.6f sd %.6f min %.6f max %.6f\n", n, mean, deviation, least, most);
    return 0;
}
