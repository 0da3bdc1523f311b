// The pool of threads: every task once, no more threads than asked for, exceptions, nesting, fork.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "hamming/threads/pool.h"
#include "hamming/threads/stop.h"
#include "test.h"

#if defined(__SANITIZE_THREAD__)
#define PYHASH_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PYHASH_THREAD_SANITIZER 1
#endif
#endif

namespace pyhash {
namespace test {
namespace {

void every_task_once() {
    CHECK(available_cpus() >= 1);
    for (size_t n = 0; n <= 70; ++n)
        for (const unsigned threads : {0u, 1u, 2u, 3u, 4u, 9u}) {
            std::vector<std::atomic<int>> done(n);
            run_tasks(n, threads, [&](size_t i) { ++done[i]; });
            for (size_t i = 0; i < n; ++i) CHECK_IN(done[i] == 1, "task", i, "of", n, "threads", threads);
        }
}

void no_more_threads_than_asked() {
    run_tasks(64, 8, [](size_t) { std::this_thread::sleep_for(std::chrono::milliseconds(1)); });  // there are more of them now
    for (const unsigned threads : {1u, 2u, 3u}) {
        std::atomic<int> now{0};
        std::atomic<int> most{0};
        run_tasks(60, threads, [&](size_t) {
            const int here = ++now;
            for (int seen = most; here > seen && !most.compare_exchange_weak(seen, here);) {
            }
            std::this_thread::sleep_for(std::chrono::microseconds(200));
            --now;
        });
        CHECK_IN(most <= static_cast<int>(threads), "threads", threads, "at once", most.load());
    }
}

// Is to stop when it was asked so many times, and watches that the thread that made it is the one that is asked.
struct Patient : Call {
    explicit Patient(int n) : left(n) {}
    bool to_stop() override {
        CHECK(std::this_thread::get_id() == self);
        return --left == 0;
    }
    const std::thread::id self = std::this_thread::get_id();
    int left;
};

void stopped_calls() {
    checkpoint();  // outside of a call nothing stops
    for (const unsigned threads : {1u, 2u, 4u}) {
        Patient call(3);
        const InCall in_call(&call);
        std::atomic<size_t> done{0};
        bool stopped = false;
        try {
            run_tasks(1000000, threads, [&](size_t) {
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
                ++done;
            });
        } catch (const Stopped&) {
            stopped = true;
        }
        CHECK_IN(stopped && done < 1000000, "threads", threads);
        CHECK_IN(call.left == 0, "threads", threads, "asked again after it was to stop");
        const size_t before = done;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        CHECK_IN(done == before, "threads", threads, "works on after the call has ended");
    }
    // A task that never ends but for its checkpoints, on another thread, while the caller has nothing left to do.
    Patient call(2);
    const InCall in_call(&call);
    bool stopped = false;
    try {
        run_tasks(2, 2, [&](size_t) {
            while (std::this_thread::get_id() != call.self) {
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
                checkpoint();
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(20));  // so that the other thread gets the other task
        });
    } catch (const Stopped&) {
        stopped = true;
    }
    CHECK(stopped || call.left > 0);  // where no other thread was to be had
    const Call* outer = current_call();
    {
        Patient inner(1);
        const InCall in_inner(&inner);
        CHECK(current_call() == &inner);
    }
    CHECK(current_call() == outer);
}

void one_thread_is_the_caller() {
    const std::thread::id self = std::this_thread::get_id();
    run_tasks(20, 1, [&](size_t) { CHECK(std::this_thread::get_id() == self); });
    run_tasks(1, 8, [&](size_t) { CHECK(std::this_thread::get_id() == self); });
}

void exceptions() {
    for (const unsigned threads : {1u, 2u, 4u})
        for (const size_t n : {1, 2, 7, 100})
            for (size_t bad = 0; bad < n; bad += 1 + n / 10) {
                std::atomic<size_t> begun{0};
                std::string text;
                try {
                    run_tasks(n, threads, [&](size_t i) {
                        ++begun;
                        if (i == bad) throw std::runtime_error("task " + std::to_string(i));
                    });
                } catch (const std::runtime_error& error) {
                    text = error.what();
                }
                CHECK_IN(text == "task " + std::to_string(bad), "n", n, "threads", threads, "got", text);
                CHECK_IN(begun >= bad + 1 && begun <= n, "n", n, "threads", threads, "begun", begun.load());
            }
    // All at once: one of them arrives, and the pool is as good as before.
    for (int round = 0; round < 50; ++round) {
        bool thrown = false;
        try {
            run_tasks(16, 4, [](size_t i) { throw i; });
        } catch (size_t i) {
            thrown = i < 16;
        }
        CHECK(thrown);
    }
    every_task_once();
}

void nested() {
    std::atomic<size_t> done{0};
    run_tasks(5, 3, [&](size_t) { run_tasks(7, 4, [&](size_t) { run_tasks(3, 2, [&](size_t) { ++done; }); }); });
    CHECK_IN(done == 5 * 7 * 3, "done", done.load());
    size_t caught = 0;
    try {
        run_tasks(4, 2, [&](size_t) { run_tasks(4, 2, [](size_t) { throw 1; }); });
    } catch (int) {
        ++caught;
    }
    CHECK(caught == 1);
}

void many_callers() {
    std::atomic<size_t> done{0};
    std::vector<std::thread> callers;
    for (int c = 0; c < 6; ++c)
        callers.emplace_back([&] {
            for (int round = 0; round < 50; ++round) run_tasks(11, 4, [&](size_t) { ++done; });
        });
    for (std::thread& caller : callers) caller.join();
    CHECK_IN(done == 6 * 50 * 11, "done", done.load());
}

#if (defined(__unix__) || defined(__APPLE__)) && !defined(PYHASH_THREAD_SANITIZER) && !defined(PYHASH_EMULATED)
// The exit status of a forked child that runs `body`; 99 where it does not end in time.
template <class Body>
int in_child(const Body& body) {
    std::fflush(nullptr);
    const pid_t pid = ::fork();
    if (pid == 0) {
        ::alarm(60);  // a child that waits for a thread it does not have ends, too
        int status = 1;
        try {
            status = body() ? 0 : 1;
        } catch (...) {
        }
        ::_exit(status);
    }
    int status = 0;
    if (pid < 0 || ::waitpid(pid, &status, 0) != pid) return 98;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

bool pool_works() {
    std::atomic<size_t> done{0};
    std::atomic<bool> elsewhere{false};
    const std::thread::id self = std::this_thread::get_id();
    size_t rounds = 0;
    do {  // on a busy machine the caller may be done before another thread has woken
        run_tasks(40, 3, [&](size_t) {
            ++done;
            if (std::this_thread::get_id() != self) elsewhere = true;
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        });
    } while (++rounds < 100 && !elsewhere);
    return done == 40 * rounds && elsewhere;
}

void after_fork() {
    Random random(18);
    const Store store(random, clustered_rows(random, 4000, 4, 10, 8), 8);
    const Rows queries = uniform_rows(random, 300, 4);
    const Database database{{&store}};
    const Metric plain;
    const Reference reference(best_kernel(), database, queries, plain);
    const auto searches = [&] {
        reference.check_topk(10, 3);
        reference.check_within(90, 3);
        return true;
    };
    CHECK(pool_works() && searches());
    CHECK(in_child(pool_works) == 0);
    CHECK(in_child(searches) == 0);
    CHECK(in_child([] { return in_child(pool_works) == 0 && pool_works(); }) == 0);  // a child's child, and the child after it
    CHECK(pool_works() && searches());

#if !defined(__SANITIZE_ADDRESS__)  // its allocator (GCC 12) keeps in the child what another thread had locked at the fork
    // While other threads keep the pool busy: its mutex may be locked at any moment.
    std::atomic<bool> stop{false};
    std::vector<std::thread> busy;
    for (int t = 0; t < 3; ++t)
        busy.emplace_back([&] {
            while (!stop) run_tasks(8, 3, [](size_t) {});
        });
    int worst = 0;
    for (size_t round = 0; round < full_or(40, 5); ++round) {
        const int status = in_child(pool_works);
        worst = status > worst ? status : worst;
    }
    stop = true;
    for (std::thread& thread : busy) thread.join();
    CHECK_IN(worst == 0, "status", worst);
#endif
}
#endif

}  // namespace

void test_threads() {
    run("threads/every_task_once", every_task_once);
    run("threads/no_more_threads_than_asked", no_more_threads_than_asked);
    run("threads/stopped_calls", stopped_calls);
    run("threads/one_thread_is_the_caller", one_thread_is_the_caller);
    run("threads/exceptions", exceptions);
    run("threads/nested", nested);
    run("threads/many_callers", many_callers);
#if defined(PYHASH_THREAD_SANITIZER)
    skip("threads/after_fork", "ThreadSanitizer does not follow a forked child");
#elif defined(PYHASH_EMULATED)
    skip("threads/after_fork", "QEMU itself can abort in the child of a process with threads");
#elif defined(__unix__) || defined(__APPLE__)
    run("threads/after_fork", after_fork);
#else
    skip("threads/after_fork", "this system has no fork");
#endif
}

}  // namespace test
}  // namespace pyhash
