/* Makes every sync take longer, to see how the figures move on a slower disk: `make bench SYNC_DELAY_US=900`.
 * Loaded before the C library (LD_PRELOAD); the thread that syncs sleeps, as it does while a real disk works.
 * What syncs by a system call of its own, as a statically linked program may, is not slowed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static int after(int done) {
    const char *said = getenv("SYNC_DELAY_US");
    long micros = said ? atol(said) : 0;
    struct timespec wait = {micros / 1000000, micros % 1000000 * 1000};
    if (micros > 0) nanosleep(&wait, NULL);
    return done;
}

int fdatasync(int fd) { return after(((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd)); }
int fsync(int fd) { return after(((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd)); }
