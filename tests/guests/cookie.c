/* cookie: ends as Solo5's trap handler does: status 255, and where the frame of the trap lies; or
 * says that it lies where no memory is; "late" waits a second before. */
#include "uk.h"
UK_MANIFEST(0);

static const uint64_t frame[7] = {/* struct trap_regs: cr2, error code, rip, cs, rflags, rsp, ss */
                                  0x1234, 6, 0x123456, 0x33, 0x10246, 0x234560, 0x2b};

int main(int argc, char **argv)
{
    struct {
        uint64_t cookie;
        int32_t status;
    } halt = {argc > 1 && strcmp(argv[1], "wild") == 0 ? ~7UL : (uint64_t)frame, 255};
    if (argc > 1 && strcmp(argv[1], "late") == 0)
        uk_poll(1000000000, NULL);
    uk_hypercall(8, &halt);
    return 1;
}
