/* spt_calls.c: for spt: system calls that no guest of Solo5 makes, or with arguments that are wild.
 */
#include "uk.h"

UK_FILTER();

#define WILD 0x7fff00000000L

static long int80(long number)
{
    long result;
    __asm__ __volatile__("int $0x80" : "=a"(result) : "a"(number), "b"(0) : "memory");
    return result;
}

static void say(const char *what, long result)
{
    eprintf("%s %d\n", what, (int)result);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    char data[8];
    if (strcmp(what, "open") == 0)
        say(what, uk_system_call(2, (long)"/etc/passwd", 0, 0, 0));
    else if (strcmp(what, "x32") == 0)
        say(what, uk_system_call(0x40000000L, 1001, (long)data, 8, 0));
    else if (strcmp(what, "int80") == 0)
        say(what, int80(20));
    else if (strcmp(what, "kill") == 0)
        say(what, uk_system_call(62, 1, 9, 0, 0));
    else if (strcmp(what, "write-2") == 0)
        say(what, uk_system_call(1, 2, (long)"x", 1, 0));
    else if (strcmp(what, "arch-prctl-wild") == 0)
        say(what, uk_system_call(158, 0x1002, -1L, 0, 0));
    else if (strcmp(what, "vsyscall") == 0)
        say(what, ((long (*)(void *))0xffffffffff600400UL)(NULL));
    else if (strcmp(what, "wild") == 0) {
        say("read", uk_system_call(0, 1001, WILD, 8, 0));
        say("write", uk_system_call(1, 1002, WILD, 8, 0));
        say("read-text", uk_system_call(0, 1001, (long)main, 8, 0));
        say("time", uk_system_call(228, 0, WILD, 0, 0));
        say("timer", uk_system_call(286, 901, 1, WILD, 0));
        say("wait", uk_system_call(281, 900, WILD, 1, -1));
        say("wait-none", uk_system_call(281, 900, (long)data, 0, -1));
        say("block", uk_system_call(17, 1001, (long)data, 512, 0));
    }
    return 7;
}
