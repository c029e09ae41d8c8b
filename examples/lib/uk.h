/*
 * uk.h: what a filter in C may use. Link with lib/, declare the devices (UK_FILTER), write a
 * main().
 *
 * The ABI is Solo5's hvt, or spt, both version 2: the same image runs under Solo5's own tenders.
 * There is no libc: what is not declared here is not there.
 */
#ifndef UK_H
#define UK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum uk_ret { UK_OK, UK_AGAIN, UK_EINVAL, UK_EUNSPEC };

struct uk_boot_info { /* struct hvt_boot_info of Solo5's hvt_abi.h */
    uint64_t mem_size, kernel_end, cpu_cycle_freq;
    const char *cmdline;
    const void *manifest;
    uint32_t host_features, guest_features;
    uint64_t net_ring;
};

struct uk_device { /* struct mft_entry of Solo5's mft_abi.h: 104 bytes */
    char name[68];
    uint32_t type;
    uint8_t mac[6];
    uint16_t mtu;
    uint64_t reserved, host;
    bool attached;
    uint8_t pad[7];
};

struct uk_manifest {
    uint32_t version, entries;
    struct uk_device device[];
};

extern const struct uk_boot_info *uk_boot; /* spt: only mem_size and kernel_end */
extern const char uk_name[];               /* argv[0]: the image's own name */

int main(int argc, char **argv);

/* The hypercalls. A handle is the device's place in the manifest, the first is 1; lengths in bytes,
 * times in nanoseconds. uk_net_read: *len is the size of the buffer, then what was read; 0 is end
 * of file. */
const char *uk_command_line(void); /* as the tender gave it: start.c makes argv of it */
uint64_t uk_walltime(void);
void uk_puts(const char *data, size_t len);
int uk_poll(uint64_t timeout_ns, uint64_t *ready);
int uk_net_write(uint64_t handle, const void *data, size_t len);
int uk_net_read(uint64_t handle, void *data, size_t *len);
_Noreturn void uk_halt(int status);
void uk_hypercall(unsigned number, volatile void *arguments);     /* hvt: any number, for tests */
long uk_system_call(long number, long a, long b, long c, long d); /* spt */

/* Standard input and output of a filter that says UK_FILTER. */
#define UK_IN 1
#define UK_OUT 2

size_t uk_read(void *buffer, size_t size);   /* waits; 0: end of file */
void uk_write(const void *data, size_t len); /* at once */
void uk_put(const void *data, size_t len);   /* buffered, until uk_flush or the end */
void uk_flush(void);
int uk_getc(void);                 /* -1: end of file */
ptrdiff_t uk_getline(char **line); /* with its newline; -1: end of file */
int printf(const char *format, ...) __attribute__((format(printf, 1, 2)));  /* to UK_OUT */
int eprintf(const char *format, ...) __attribute__((format(printf, 1, 2))); /* to the console */
int uk_vformat(char *to, size_t size, const char *format, __builtin_va_list ap);

void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void *memchr(const void *at, int value, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
bool uk_number(const char *s, long *value);
void *uk_heap(size_t *size); /* all memory between the image and the stack */

/*
 * The manifest: an ELF note; uk_boot->manifest is the tender's copy, filled in. Behind the note's
 * head of 20 bytes stand 4 of padding, so that the manifest itself is aligned to 8.
 */
#define UK_NET(n) {.name = n, .type = 2}
#define UK_MANIFEST(count, ...)                                                                    \
    __attribute__((section(".note.solo5.manifest"), aligned(8), used)) static const struct {       \
        uint32_t name_size, size, type;                                                            \
        char owner[8];                                                                             \
        uint32_t pad, version, entries;                                                            \
        struct uk_device device[(count) + 1];                                                      \
    } uk_manifest_note = {                                                                         \
        6,           12 + 104 * ((count) + 1),          0x3154464d, "Solo5", 0, 1,                 \
        (count) + 1, {{.type = 1 << 30}, ##__VA_ARGS__}}

/* A filter's two devices: handles UK_IN and UK_OUT. The console is its standard error then. */
#define UK_FILTER() UK_MANIFEST(2, UK_NET("stdin"), UK_NET("stdout"))

#endif
