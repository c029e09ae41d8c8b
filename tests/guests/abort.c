/* abort: ends as Solo5's abort does, with a line and status 255. */
#include "uk.h"
UK_MANIFEST(0);
int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    eprintf("abort: as asked\n");
    uk_halt(255);
}
