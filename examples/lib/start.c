/* start.c: from the tender's entry to main(), and the notes that make the file a Solo5 image. */
#include "uk.h"

#define COMMAND_LINE_MAX 8192 /* HVT_CMDLINE_SIZE of hvt_abi.h */
#define ARGUMENTS_MAX (COMMAND_LINE_MAX / 2)

__attribute__((section(".interp"), aligned(8), used)) static const char interpreter[24] =
    "/nonexistent/solo5/";

#ifndef UK_TARGET
#define UK_TARGET 1 /* hvt; 2 is spt */
#endif

/* struct abi1_note of Solo5's elf_abi.h; both targets are of version 2 */
__attribute__((section(".note.solo5.abi"), aligned(4), used)) static const struct {
    uint32_t name_size, size, type;
    char owner[8];
    uint32_t target, version, reserved[2];
} abi_note = {6, 16, 0x31494241, "Solo5", UK_TARGET, 2, {0, 0}};

const struct uk_boot_info *uk_boot;

static char command_line[COMMAND_LINE_MAX];
static char *arguments[ARGUMENTS_MAX + 2];

/* Split at spaces, as the tender joined; words for Solo5 itself, which come first, are dropped. */
static int split(void)
{
    int count = 1;
    bool leading = true;
    arguments[0] = (char *)uk_name;
    const char *given = uk_command_line();
    memcpy(command_line, given, strlen(given) + 1);
    for (char *at = command_line; *at && count <= ARGUMENTS_MAX;) {
        char *end = memchr(at, ' ', strlen(at));
        char *next = end ? end + 1 : at + strlen(at);
        if (end)
            *end = 0;
        leading = leading && strlen(at) >= 8 && memcmp(at, "--solo5:", 8) == 0;
        if (!leading && *at)
            arguments[count++] = at;
        at = next;
    }
    return count;
}

void _start(const struct uk_boot_info *boot)
{
    uk_boot = boot;
    int status = main(split(), arguments);
    uk_flush();
    uk_halt(status);
}

void *uk_heap(size_t *size)
{
    static const uint64_t stack = 1 << 20;
    uint64_t end = uk_boot->mem_size - stack, start = uk_boot->kernel_end;
    *size = uk_boot->mem_size > stack && end > start ? end - start : 0;
    return (void *)uk_boot->kernel_end;
}
