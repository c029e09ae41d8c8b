/* vectors: SSE and, where CPUID and XCR0 have it, AVX arithmetic; `sse 10 avx 36` or `sse 10 avx
 * no`. */
#include "uk.h"
UK_MANIFEST(0);
static uint64_t xcr0(void)
{
    uint32_t low, high;
    __asm__ __volatile__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}
__attribute__((target("avx"))) static int avx_sum(void)
{
    float v[8] __attribute__((aligned(32))) = {1, 2, 3, 4, 5, 6, 7, 8}, sum = 0;
    __asm__ __volatile__("vmovaps %0, %%ymm0; vaddps %%ymm0, %%ymm0, %%ymm1; vmovaps %%ymm1, %0"
                         : "+m"(v)
                         :
                         : "xmm0", "xmm1");
    for (int i = 0; i < 8; i++)
        sum += v[i];
    return (int)sum / 2;
}
int main(int argc, char **argv)
{
    uint32_t a = 1, b, c = 0, d;
    (void)argc, (void)argv;
    float v[4] __attribute__((aligned(16))) = {1, 2, 3, 4};
    __asm__ __volatile__("movaps %0, %%xmm0; addps %%xmm0, %%xmm0; movaps %%xmm0, %0"
                         : "+m"(v)
                         :
                         : "xmm0");
    eprintf("sse %d ", (int)(v[0] + v[1] + v[2] + v[3]) / 2);
    __asm__ __volatile__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if ((c >> 27 & 3) == 3 && (xcr0() & 6) == 6)
        eprintf("avx %d\n", avx_sum());
    else
        eprintf("avx no\n");
    return 0;
}
