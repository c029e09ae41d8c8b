/* sha256sum: FIPS 180-4, section 6.2. The constants are its own: roots of the first primes, 4.2.2
 * and 5.3.3. */
#include "uk.h"

UK_FILTER();

static uint32_t k[64], h[8];

/* The first 32 bits of the fraction of the square (2) or cube (3) root of p, by bisection in 128
 * bits. */
static uint32_t root_bits(unsigned p, int power)
{
    uint64_t low = 0, high = 1ULL << 37;
    while (low + 1 < high) {
        uint64_t mid = (low + high) / 2;
        unsigned __int128 v = (unsigned __int128)mid * mid;
        if (power == 2 ? v > (unsigned __int128)p << 64 : v * mid > (unsigned __int128)p << 96)
            high = mid;
        else
            low = mid;
    }
    return (uint32_t)low;
}

static void constants(void)
{
    unsigned count = 0;
    for (unsigned p = 2; count < 64; p++) {
        bool prime = true;
        for (unsigned d = 2; d * d <= p; d++)
            prime = prime && p % d;
        if (!prime)
            continue;
        if (count < 8)
            h[count] = root_bits(p, 2);
        k[count++] = root_bits(p, 3);
    }
}

static uint32_t turn(uint32_t v, int n)
{
    return v >> n | v << (32 - n);
}

static void block(const uint8_t *at)
{
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++, at += 4)
        w[i] = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + w[i - 7] + (turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3) +
               (turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(s, h, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t a = s[0], e = s[4];
        uint32_t t1 = s[7] + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & s[5]) ^ (~e & s[6])) +
                      k[i] + w[i];
        uint32_t t2 =
            (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof s[0]);
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++)
        h[i] += s[i];
}

int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    static uint8_t buffer[65536 + 128];
    uint64_t total = 0;
    size_t held = 0;
    constants();
    for (size_t n; (n = uk_read(buffer + held, 65536)) > 0;) {
        size_t at = 0;
        total += n;
        for (held += n; held - at >= 64; at += 64)
            block(buffer + at);
        held -= at;
        memcpy(buffer, buffer + at, held);
    }
    size_t end = held < 56 ? 64 : 128;
    memset(buffer + held, 0, end - held);
    buffer[held] = 0x80;
    for (int i = 0; i < 8; i++)
        buffer[end - 1 - (size_t)i] = (uint8_t)(total * 8 >> 8 * i);
    for (size_t at = 0; at < end; at += 64)
        block(buffer + at);
    for (int i = 0; i < 8; i++)
        printf("%08x", h[i]);
    printf("  -\n");
    return 0;
}
