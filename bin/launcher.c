/*
 * launcher.c: the command `ukfilter`: start Python on the package, safe from what comes too early.
 *
 * Python is not ours to interrupt until it has come to our first line: a ^C in its first 10 ms
 * would show a traceback. So SIGINT is blocked here and let through there, by __main__.py. And
 * Python refuses to start, in words of its own, where standard input is a directory.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef PYTHON
#error "PYTHON: the interpreter to use where there is none beside the command"
#endif

#define PATH_MAX_LENGTH 4096

static int refuse(const char *object, const char *reason)
{
    dprintf(2, "ukfilter: %s: %s\n", object, reason);
    return 125;
}

/* Under the name of one of Solo5's tenders, by a symbolic link, it stands in for that one. */
static char *script(const char *called)
{
    static char *const scripts[] = {
        "import sys; from ukfilter.__main__ import main; sys.exit(main())",
        "import sys; from ukfilter.__main__ import main; sys.exit(main('solo5-hvt'))",
        "import sys; from ukfilter.__main__ import main; sys.exit(main('solo5-spt'))"};
    const char *slash = called ? strrchr(called, '/') : NULL;
    const char *name = slash ? slash + 1 : called ? called : "";
    return scripts[strcmp(name, "solo5-hvt") == 0 ? 1 : strcmp(name, "solo5-spt") == 0 ? 2 : 0];
}

int main(int argc, char **argv)
{
    static char beside[PATH_MAX_LENGTH + 16];
    /* -P: the working directory is no place to import from. */
    char *fixed[] = {"ukfilter", "-P", "-c", script(argv[0])};
    enum { FIXED = sizeof fixed / sizeof fixed[0] };
    char *words[FIXED + (size_t)argc + 1];
    struct stat input;
    sigset_t interrupt;
    if (fstat(0, &input) == 0 && S_ISDIR(input.st_mode))
        return refuse("cannot read standard input", strerror(EISDIR));
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, NULL);
    memcpy(words, fixed, sizeof fixed);
    for (int i = 1; i <= argc; i++)
        words[FIXED + i - 1] = argv[i];
    ssize_t length = readlink("/proc/self/exe", beside, PATH_MAX_LENGTH);
    char *name = length > 0 ? memrchr(beside, '/', (size_t)length) : NULL;
    if (name) {
        strcpy(name, "/python3");
        words[0] = beside;
        execv(beside, words);
    }
    words[0] = PYTHON;
    execv(PYTHON, words);
    return refuse(PYTHON, strerror(errno));
}
