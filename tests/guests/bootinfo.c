/* bootinfo: what the tender told, in a canonical form. */
#include "uk.h"
UK_MANIFEST(2, UK_NET("stdin"), UK_NET("stdout"));
int main(int argc, char **argv)
{
    const struct uk_manifest *m = uk_boot->manifest;
    printf("mem %lu end %d tsc %d ring %d\n", uk_boot->mem_size >> 20,
           uk_boot->kernel_end > 0x100000 && uk_boot->kernel_end % 4096 == 0,
           uk_boot->cpu_cycle_freq > 500000000 && uk_boot->cpu_cycle_freq < 10000000000,
           uk_boot->host_features != 0 || uk_boot->net_ring != 0);
    printf("cmdline %zu %.30s\n", strlen(uk_boot->cmdline), uk_boot->cmdline);
    for (int i = 1; i < argc; i++)
        printf("arg %.40s\n", argv[i]);
    for (unsigned i = 1; i < m->entries; i++)
        printf("device %u %s mtu %u mac %02x:%02x:%02x:%02x:%02x:%02x attached %d\n", i,
               m->device[i].name, m->device[i].mtu, m->device[i].mac[0], m->device[i].mac[1],
               m->device[i].mac[2], m->device[i].mac[3], m->device[i].mac[4], m->device[i].mac[5],
               m->device[i].attached);
    return 0;
}
