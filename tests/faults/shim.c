/* A disk that fails: loaded before libc, it counts what writes below a folder and fails the call that is asked for.
 *
 * FAULT_ROOT  the folder       FAULT_AT    which call fails, from 1; 0: none
 * FAULT_KIND  full, error, half, sync, rename, create
 * FAULT_STAYS set: every later call of the kind fails, too
 * FAULT_COUNT a file that gets the number of calls at the end */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;

static int is_below(const char *path) {
    const char *root = getenv("FAULT_ROOT");
    return root && strncmp(path, root, strlen(root)) == 0;
}

static int is_ours(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return is_below(path);
}

/* Whether this call of `kind` is the one that fails. */
static int fails(const char *kind) {
    const char *wanted = getenv("FAULT_KIND"), *at = getenv("FAULT_AT");
    if (!wanted || !at || strcmp(wanted, kind) != 0) return 0;
    long call = atomic_fetch_add(&calls, 1) + 1, which = atol(at);
    return which > 0 && (call == which || (call > which && getenv("FAULT_STAYS")));
}

__attribute__((destructor)) static void count(void) {
    const char *path = getenv("FAULT_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    fprintf(file, "%ld\n", (long)calls);
    fclose(file);
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int file, const void *bytes, size_t n) {
    REAL(write);
    if (!is_ours(file)) return real(file, bytes, n);
    if (fails("half") && n > 1) return real(file, bytes, n / 2);
    if (fails("full")) {
        /* A disk fills up within a write: half of it is taken first. */
        if (n > 1) real(file, bytes, n / 2);
        errno = ENOSPC;
        return -1;
    }
    if (fails("error")) {
        errno = EIO;
        return -1;
    }
    return real(file, bytes, n);
}

ssize_t writev(int file, const struct iovec *parts, int n) {
    REAL(writev);
    if (is_ours(file) && (fails("full") || fails("error"))) {
        errno = ENOSPC;
        return -1;
    }
    return real(file, parts, n);
}

int fsync(int file) {
    REAL(fsync);
    if (is_ours(file) && fails("sync")) {
        errno = EIO;
        return -1;
    }
    return real(file);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    if (is_below(to) && fails("rename")) {
        errno = ENOSPC;
        return -1;
    }
    return real(from, to);
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    if (is_below(path) && fails("create")) {
        errno = ENOSPC;
        return -1;
    }
    return real(path, mode);
}

int open64(const char *path, int flags, ...) {
    REAL(open64);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if ((flags & O_CREAT) && is_below(path) && fails("create")) {
        errno = ENOSPC;
        return -1;
    }
    return real(path, flags, mode);
}
