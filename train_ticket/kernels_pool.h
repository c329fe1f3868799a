/* A pool of threads that take work items. The caller waits only for threads that have begun one */
#pragma once
#include "kernels_philox.h"
#include <pthread.h>
#include <stdatomic.h>
#ifdef __linux__
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#ifdef HAVE_X86
#define PAUSE() _mm_pause()
#elif defined(HAVE_NEON)
#define PAUSE() __asm__ volatile("yield")
#else
#define PAUSE()
#endif
enum { SPINS = 1000 };   /* some microseconds: the next layer's job often comes within them */
typedef void item_function(const void *data, int64_t item);
typedef struct {
    item_function *run;
    const void *data;
    int64_t items;
    atomic_llong next;
    int users, limit;   /* helpers that work on it, and the most that may */
} job;
static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake, left;
    job *current;
    int helpers, busy;
    atomic_uint jobs;   /* begun so far */
} pool = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, 0, 0, 0 };

static void work(job *j) {
    for (int64_t i; (i = atomic_fetch_add(&j->next, 1)) < j->items; ) j->run(j->data, i);
}

/* Threads of other libraries may spin for milliseconds after their work. Linux lets them finish their time
   slice before it runs a thread that wakes up, unless that thread's own slice is shorter. Since Linux 6.12 a
   thread can request a slice (here 0.3 ms); its share of the time stays the same. Older kernels ignore it */
static void ask_for_short_slices(void) {
#if defined(__linux__) && defined(SYS_sched_setattr)
    if (sched_getscheduler(0) != SCHED_OTHER) return;
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } wanted = { .size = sizeof wanted, .policy = SCHED_OTHER, .runtime = 300000 };
    wanted.nice = getpriority(PRIO_PROCESS, 0);
    syscall(SYS_sched_setattr, 0, &wanted, 0);
#endif
}
static void *help(void *unused) {
    unsigned seen = 0;
    ask_for_short_slices();
    for (;;) {
        for (int spin = 0; spin < SPINS && atomic_load(&pool.jobs) == seen; spin++) PAUSE();
        pthread_mutex_lock(&pool.lock);
        while (atomic_load(&pool.jobs) == seen) pthread_cond_wait(&pool.wake, &pool.lock);
        seen = atomic_load(&pool.jobs);
        job *j = pool.current;
        if (j && j->users < j->limit) {
            j->users++;
            pthread_mutex_unlock(&pool.lock);
            work(j);
            pthread_mutex_lock(&pool.lock);
            if (--j->users == 0) pthread_cond_signal(&pool.left);
        }
        pthread_mutex_unlock(&pool.lock);
    }
    return unused;
}

/* A child process has no helper threads, and a helper of its parent may have held the lock */
static void forked(void) {
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pthread_cond_init(&pool.left, NULL);
    pool.current = NULL;
    pool.helpers = pool.busy = 0;
}
static void watch_forks(void) { pthread_atfork(NULL, NULL, forked); }

/* Wake the helpers for a job, unless another caller has them. The caller must hold the lock */
static int shared(job *j) {
    pthread_t thread;
    if (j->limit <= 0 || pool.busy) return 0;
    for (; pool.helpers < j->limit && !pthread_create(&thread, NULL, help, NULL); pool.helpers++)
        pthread_detach(thread);
    pool.busy = 1;
    pool.current = j;
    atomic_fetch_add(&pool.jobs, 1);
    pthread_cond_broadcast(&pool.wake);
    return 1;
}
static void parallel(item_function *run, const void *data, int64_t items, int threads) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    job j = { .run = run, .data = data, .items = items, .limit = (int)MIN(threads, items) - 1 };
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&pool.lock);
    const int helped = shared(&j);
    pthread_mutex_unlock(&pool.lock);
    work(&j);
    if (!helped) return;
    pthread_mutex_lock(&pool.lock);
    pool.current = NULL;
    while (j.users) pthread_cond_wait(&pool.left, &pool.lock);
    pool.busy = 0;
    pthread_mutex_unlock(&pool.lock);
}
