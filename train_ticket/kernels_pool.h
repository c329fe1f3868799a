#pragma once
#include "kernels_philox.h"
#include <pthread.h>
#include <stdatomic.h>
#ifdef HAVE_X86
#define PAUSE() _mm_pause()
#else
#define PAUSE()
#endif
typedef void item_function(const void *data, int64_t item);
typedef struct { item_function *run; const void *data; int64_t items; atomic_llong next; int users, limit; } job;
static struct { pthread_mutex_t lock; pthread_cond_t wake, left; job *current; int helpers, busy; atomic_uint jobs; } pool =
    { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER };

static void work(job *j) { for (int64_t i; (i = atomic_fetch_add(&j->next, 1)) < j->items; ) j->run(j->data, i); }

static void *help(void *unused) {
    unsigned seen = 0;
    for (;;) {
        for (int spin = 0; spin < 1000 && atomic_load(&pool.jobs) == seen; spin++) PAUSE();   /* some microseconds: the next layer may follow at once */
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
static void forked(void) {   /* a child process has no helpers, and its parent's may have held the lock */
    pthread_mutex_init(&pool.lock, NULL); pthread_cond_init(&pool.wake, NULL); pthread_cond_init(&pool.left, NULL);
    pool.current = NULL; pool.helpers = pool.busy = 0;
}
static void watch_forks(void) { pthread_atfork(NULL, NULL, forked); }

static void parallel(item_function *run, const void *data, int64_t items, int threads) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    job j = { .run = run, .data = data, .items = items, .limit = (int)MIN(threads, items) - 1 };
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&pool.lock);
    const int shared = j.limit > 0 && !pool.busy;   /* a second caller at the same time works alone */
    if (shared) {
        pthread_t thread;
        while (pool.helpers < j.limit && !pthread_create(&thread, NULL, help, NULL)) { pthread_detach(thread); pool.helpers++; }
        pool.busy = 1; pool.current = &j; atomic_fetch_add(&pool.jobs, 1);
        pthread_cond_broadcast(&pool.wake);
    }
    pthread_mutex_unlock(&pool.lock);
    work(&j);
    if (!shared) return;
    pthread_mutex_lock(&pool.lock);
    pool.current = NULL;
    while (j.users) pthread_cond_wait(&pool.left, &pool.lock);
    pool.busy = 0;
    pthread_mutex_unlock(&pool.lock);
}
