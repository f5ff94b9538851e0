/* The high-water mark of malloc: what a process holds, and the most that it held since it was last asked.
 *
 * Preloaded (LD_PRELOAD) it stands between a program and glibc, whose own entry points do the work. A block
 * counts with the bytes that were requested, which a head in front of it keeps. What malloc itself maps is
 * part of the blocks that it hands out and is not counted again; what a program maps beside malloc is not
 * seen. Objects are the blocks of less than 1 KiB that were not requested at an alignment: torch requests
 * the memory of tensors at one, and what describes tensors as any C++ program requests memory.
 */

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *block);

/* As large as the alignment that malloc promises, so that the block behind it keeps that. */
typedef struct {
    size_t size;
    size_t offset; /* From where glibc's block begins to ours. */
} Head;

#define PLAIN sizeof(Head)
#define OBJECT 1024

_Static_assert(sizeof(Head) == 16, "the head moves blocks off their alignment");

static atomic_llong held, objects, highest, objects_then;

static Head *head(void *block) { return (Head *)block - 1; }

static int is_object(const Head *its) { return its->offset == PLAIN && its->size < OBJECT; }

static void *gain(void *start, size_t offset, size_t size) {
    if (!start)
        return NULL;
    void *block = (char *)start + offset;
    *head(block) = (Head){size, offset};
    if (is_object(head(block)))
        atomic_fetch_add(&objects, (long long)size);
    long long now = atomic_fetch_add(&held, (long long)size) + (long long)size;
    long long before = atomic_load(&highest);
    while (now > before) {
        if (atomic_compare_exchange_weak(&highest, &before, now)) {
            atomic_store(&objects_then, atomic_load(&objects));
            break;
        }
    }
    return block;
}

static void lose(const Head its) {
    if (is_object(&its))
        atomic_fetch_sub(&objects, (long long)its.size);
    atomic_fetch_sub(&held, (long long)its.size);
}

static void *refuse(void) {
    errno = ENOMEM;
    return NULL;
}

/* What is held now: all of it, and the objects of it. */
long long highwater_held(void) { return atomic_load(&held); }

long long highwater_objects(void) { return atomic_load(&objects); }

/* The most that was held since the last reset, and the objects of it. */
long long highwater_peak(void) { return atomic_load(&highest); }

long long highwater_peak_objects(void) { return atomic_load(&objects_then); }

/* Forget the former peak. */
void highwater_reset(void) {
    atomic_store(&objects_then, atomic_load(&objects));
    atomic_store(&highest, atomic_load(&held));
}

void *malloc(size_t size) {
    return size > PTRDIFF_MAX - PLAIN ? refuse() : gain(__libc_malloc(size + PLAIN), PLAIN, size);
}

void *calloc(size_t count, size_t size) {
    if (size && count > (PTRDIFF_MAX - PLAIN) / size)
        return refuse();
    return gain(__libc_calloc(1, count * size + PLAIN), PLAIN, count * size);
}

void free(void *block) {
    if (!block)
        return;
    Head its = *head(block);
    lose(its);
    __libc_free((char *)block - its.offset);
}

void *realloc(void *block, size_t size) {
    if (!block)
        return malloc(size);
    if (!size) {
        free(block);
        return NULL;
    }
    if (size > PTRDIFF_MAX - PLAIN)
        return refuse();
    Head its = *head(block);
    if (its.offset == PLAIN) {
        char *before = (char *)block - PLAIN;
        uintptr_t place = (uintptr_t)before;
        char *start = __libc_realloc(before, size + PLAIN);
        if (!start)
            return NULL;
        if ((uintptr_t)start == place) {
            lose(its);
            return gain(start, PLAIN, size);
        }
        /* While it moves, both are there. */
        void *moved = gain(start, PLAIN, size);
        lose(its);
        return moved;
    }
    void *moved = malloc(size);
    if (moved) {
        memcpy(moved, block, its.size < size ? its.size : size);
        free(block);
    }
    return moved;
}

void *reallocarray(void *block, size_t count, size_t size) {
    return size && count > PTRDIFF_MAX / size ? refuse() : realloc(block, count * size);
}

void *memalign(size_t alignment, size_t size) {
    /* Twice the head at least: an aligned block is told from a plain one by its offset. */
    size_t offset = alignment < 2 * PLAIN ? 2 * PLAIN : alignment;
    if (offset > PTRDIFF_MAX / 2 || size > PTRDIFF_MAX / 2)
        return refuse();
    return gain(__libc_memalign(offset, size + offset), offset, size);
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **block, size_t alignment, size_t size) {
    if (!alignment || alignment % sizeof(void *) || alignment & (alignment - 1))
        return EINVAL;
    int before = errno;
    void *found = memalign(alignment, size);
    errno = before;
    if (!found)
        return ENOMEM;
    *block = found;
    return 0;
}

void *valloc(size_t size) { return memalign((size_t)sysconf(_SC_PAGESIZE), size); }

void *pvalloc(size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return memalign(page, size ? (size + page - 1) / page * page : page);
}

size_t malloc_usable_size(void *block) { return block ? head(block)->size : 0; }
