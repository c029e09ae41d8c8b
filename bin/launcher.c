/*
 * launcher.c: the command `ukfilter`: start Python on the package, safe from what comes too early.
 *
 * Python is not ours to interrupt until it has come to our first line: a ^C in its first 10 ms
 * would show a traceback. So SIGINT is blocked here and let through there, by __main__.py. And
 * Python refuses to start, in words of its own, where standard input is a directory.
 *
 * Where the package is found without it, the module `site` is left out, which takes a quarter of
 * Python's start; what it would do is to read the .pth files beside the package.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* setup.py: the interpreter to use where there is none beside the command; where that keeps its
 * packages, from the command's directory; and the file there that names an editable package's. */
#if !defined(PYTHON) || !defined(PACKAGES) || !defined(EDITABLE)
#error "PYTHON, PACKAGES and EDITABLE are to be defined"
#endif

#define PATH_MAX_LENGTH 4096

#define CALL "from ukfilter.__main__ import main; sys.exit(main(name))"

static char beside[PATH_MAX_LENGTH + 16];     /* the interpreter beside the command */
static char packages[PATH_MAX_LENGTH + 64];   /* site-packages */
static char source[2 * PATH_MAX_LENGTH + 64]; /* what holds the package itself */

static int refuse(const char *object, const char *reason)
{
    dprintf(2, "ukfilter: %s: %s\n", object, reason);
    return 125;
}

static int exists(const char *directory, const char *name)
{
    char path[sizeof source + 32];
    int n = snprintf(path, sizeof path, "%s/%s", directory, name);
    return n < (int)sizeof path && access(path, R_OK) == 0;
}

/* Set source to where the package is: here, or where an editable installation's file says. */
static int find_package(void)
{
    if (exists(packages, "ukfilter/__main__.py")) {
        strcpy(source, packages);
        return 1;
    }
    char path[sizeof packages + sizeof EDITABLE];
    snprintf(path, sizeof path, "%s/%s", packages, EDITABLE);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, source, PATH_MAX_LENGTH);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return 0;
    source[n] = 0;
    source[strcspn(source, "\n")] = 0;
    return exists(source, "ukfilter/__main__.py");
}

/* The name it is called by, through a symbolic link, if that is one that it stands in for. */
static char *name_of(const char *called)
{
    static char *const names[] = {"solo5-hvt", "solo5-spt", "mount.fuse.ukfilter"};
    const char *slash = called ? strrchr(called, '/') : NULL;
    const char *name = slash ? slash + 1 : called ? called : "";
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0)
            return names[i];
    return "ukfilter";
}

static void start(char *python, int found, int argc, char **argv)
{
    /* -P: the working directory is no place to import from; -I is that, and no environment. */
    static char *const scripts[] = {
        "import sys; name = sys.argv.pop(1); " CALL,
        "import sys; name, *path = sys.argv[1:4]; sys.path += path; del sys.argv[1:4]; " CALL};
    char *words[(size_t)argc + 8];
    unsigned n = 0;
    words[n++] = python;
    words[n++] = found ? "-IS" : "-P";
    words[n++] = "-c";
    words[n++] = scripts[found];
    words[n++] = name_of(argv[0]);
    if (found) {
        words[n++] = source;
        words[n++] = packages;
    }
    for (int i = 1; i <= argc; i++)
        words[n++] = argv[i];
    execv(python, words);
}

int main(int argc, char **argv)
{
    struct stat input;
    sigset_t interrupt;
    if (fstat(0, &input) == 0 && S_ISDIR(input.st_mode))
        return refuse("cannot read standard input", strerror(EISDIR));
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, NULL);
    ssize_t length = readlink("/proc/self/exe", beside, PATH_MAX_LENGTH);
    char *name = length > 0 ? memrchr(beside, '/', (size_t)length) : NULL;
    if (name) {
        *name = 0;
        snprintf(packages, sizeof packages, "%s/%s", beside, PACKAGES);
        strcpy(name, "/python3");
        start(beside, find_package(), argc, argv);
    }
    start(PYTHON, 0, argc, argv);
    return refuse(PYTHON, strerror(errno));
}
