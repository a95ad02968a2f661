// Ends a process at its file operation number N beside or below a place: what a kill does there, in libraries, too.
// kills.py compiles it, loads it with LD_PRELOAD, and sets it by kills_at() in the process that is to end.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char place[PATH_MAX];
static size_t length;
static atomic_long count;
static long last;
static int report = -1;

#define PLAIN(name) \
    static __typeof__(name) *plain; \
    if (!plain) plain = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

// Set what is counted: operations on paths that begin with ``where``. At number ``at`` the process ends; with 0 each is
// written into the pipe ``pipe`` instead.
void kills_at(const char *where, long at, int pipe) {
    snprintf(place, sizeof place, "%s", where);
    length = strlen(place);
    last = at;
    report = pipe;
    count = 0;
}

// Whether the process is to end at this operation.
static int due(const char *what, const char *path) {
    if (!length || !path || strncmp(path, place, length) != 0) return 0;
    long number = atomic_fetch_add(&count, 1) + 1;
    if (last == 0) {
        char line[PATH_MAX + 32];
        int size = snprintf(line, sizeof line, "%s %s\n", what, path);
        static ssize_t (*write_plain)(int, const void *, size_t);
        if (!write_plain) write_plain = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
        if (write_plain(report, line, size) < 0) _exit(8);
    }
    return number == last;
}

static int due_at(const char *what, int folder, const char *path) {
    if (!length) return 0;
    char whole[2 * PATH_MAX];
    if (path && path[0] != '/' && folder != AT_FDCWD) {
        char link[64], found[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t size = readlink(link, found, sizeof found - 1);
        if (size < 0) return 0;
        found[size] = 0;
        snprintf(whole, sizeof whole, "%s/%s", found, path);
        path = whole;
    }
    return due(what, path);
}

#define CHANGES (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)
#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        PLAIN(name); \
        if (flags & CHANGES && due("open", path)) _exit(9); \
        return plain(path, flags, mode); \
    }
#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        PLAIN(name); \
        if (flags & CHANGES && due_at("open", folder, path)) _exit(9); \
        return plain(folder, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

#define ON_PATH(name, arguments, ...) \
    int name arguments { \
        PLAIN(name); \
        if (due(#name, path)) _exit(9); \
        return plain(__VA_ARGS__); \
    }
ON_PATH(mkdir, (const char *path, mode_t mode), path, mode)
ON_PATH(rmdir, (const char *path), path)
ON_PATH(unlink, (const char *path), path)
ON_PATH(truncate, (const char *path, off_t size), path, size)
ON_PATH(chmod, (const char *path, mode_t mode), path, mode)
ON_PATH(rename, (const char *path, const char *to), path, to)
ON_PATH(link, (const char *path, const char *to), path, to)

#define AT_PATH(name, arguments, ...) \
    int name arguments { \
        PLAIN(name); \
        if (due_at(#name, folder, path)) _exit(9); \
        return plain(__VA_ARGS__); \
    }
AT_PATH(mkdirat, (int folder, const char *path, mode_t mode), folder, path, mode)
AT_PATH(unlinkat, (int folder, const char *path, int flags), folder, path, flags)
AT_PATH(renameat, (int folder, const char *path, int other, const char *to), folder, path, other, to)
AT_PATH(linkat, (int folder, const char *path, int other, const char *to, int flags), folder, path, other, to, flags)

int renameat2(int folder, const char *path, int other, const char *to, unsigned int flags) {
    PLAIN(renameat2);
    if (due_at("renameat2", folder, path)) _exit(9);
    return plain(folder, path, other, to, flags);
}

#define ON_FILE(type, name, arguments, ...) \
    type name arguments { \
        PLAIN(name); \
        if (due_at(#name, file, ".")) _exit(9); \
        return plain(__VA_ARGS__); \
    }

// Half of it is there then.
ssize_t write(int file, const void *data, size_t size) {
    PLAIN(write);
    if (due_at("write", file, ".")) {
        if (plain(file, data, size / 2) < 0) _exit(8);
        _exit(9);
    }
    return plain(file, data, size);
}

ON_FILE(ssize_t, writev, (int file, const struct iovec *parts, int number), file, parts, number)
ON_FILE(ssize_t, pwrite, (int file, const void *data, size_t size, off_t at), file, data, size, at)
ON_FILE(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t at), file, data, size, at)
ON_FILE(int, ftruncate, (int file, off_t size), file, size)
ON_FILE(int, ftruncate64, (int file, off64_t size), file, size)
ON_FILE(int, fchmod, (int file, mode_t mode), file, mode)
ON_FILE(int, fsync, (int file), file)
