/* Preloaded into fsx, which maps a piece of its file for each reading and never lets go of it: in a long run every truncation has ten thousands of mappings to
 * look at, and its time grows by the square of its length. It is done with one mapping before it asks for the next. */
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static void *mapped;
static size_t mapped_bytes;

void *mmap(void *place, size_t bytes, int protection, int flags, int file, off_t offset) {
    if (file >= 0 && mapped) {
        munmap(mapped, mapped_bytes);
    }
    void *result = (void *)syscall(SYS_mmap, place, bytes, protection, flags, file, offset);
    if (file >= 0 && result != MAP_FAILED) {
        mapped = result;
        mapped_bytes = bytes;
    }
    return result;
}

int munmap(void *place, size_t bytes) {
    if (place == mapped) {
        mapped = NULL;
    }
    return (int)syscall(SYS_munmap, place, bytes);
}
