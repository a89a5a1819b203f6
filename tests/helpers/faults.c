/* Preloaded into a process to make the nth call that changes files under a folder fail, or kill it there.

   fault_arm(folder, n, what): what > 0 is the errno the nth call and all later ones of its kind of place fail with,
   what < 0 kills the process at the nth call, 0 only counts. fault_room(bytes): writes beyond it fail with ENOSPC. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long nth = 0, calls = 0, room = -1;
static int what = 0, armed = 0;

void fault_arm(const char *where, long n, int action) {
    strncpy(folder, where, sizeof folder - 1);
    nth = n, what = action, calls = 0, armed = 1;
}
void fault_room(long bytes) { room = bytes; }
long fault_calls(void) { return calls; }

static int is_inside(const char *path) { return armed && path && !strncmp(path, folder, strlen(folder)); }
static int is_open_inside(int fd) {
    char link[64], path[PATH_MAX];
    if (!armed || fd < 3) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_inside(path);
}
static int fails(void) {
    calls++;
    if (nth == 0 || calls < nth) return 0;
    if (what < 0 && calls == nth) kill(getpid(), SIGKILL);
    if (what > 0 && calls == nth) { errno = what; return 1; }
    return 0;
}
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is_full(size_t bytes) {
    if (room < 0) return 0;
    if (room < (long)bytes) { errno = ENOSPC; return 1; }
    room -= bytes;
    return 0;
}
ssize_t write(int fd, const void *data, size_t bytes) {
    if (is_open_inside(fd) && (fails() || is_full(bytes))) return -1;
    return REAL(write)(fd, data, bytes);
}
ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t at) {
    if (is_open_inside(fd) && (fails() || is_full(bytes))) return -1;
    return REAL(pwrite64)(fd, data, bytes, at);
}
int fsync(int fd) {
    if (is_open_inside(fd) && fails()) return -1;
    return REAL(fsync)(fd);
}
int rename(const char *from, const char *to) {
    if (is_inside(from) && fails()) return -1;
    return REAL(rename)(from, to);
}
int mkdir(const char *path, mode_t mode) {
    if (is_inside(path) && fails()) return -1;
    return REAL(mkdir)(path, mode);
}
int unlink(const char *path) {
    if (is_inside(path) && fails()) return -1;
    return REAL(unlink)(path);
}
int rmdir(const char *path) {
    if (is_inside(path) && fails()) return -1;
    return REAL(rmdir)(path);
}
