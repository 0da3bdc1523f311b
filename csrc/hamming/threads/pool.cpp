#include "hamming/threads/pool.h"
#include "hamming/threads/stop.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define PYHASH_HAS_FORK 1
#endif

namespace pyhash {

unsigned available_cpus() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        const int count = CPU_COUNT(&set);
        if (count > 0) return static_cast<unsigned>(count);
    }
#endif
    const unsigned count = std::thread::hardware_concurrency();
    return count > 0 ? count : 1;
}

namespace {

// One call of run_tasks, shared with the workers that help; it outlives the call for a worker that comes too late.
struct Job {
    Job(size_t n, const std::function<void(size_t)>& t) : n_tasks(n), task(t), call(current_call()), unfinished(n) {}

    const size_t n_tasks;
    const std::function<void(size_t)>& task;  // valid while a task is unfinished
    Call* const call;                         // likewise
    std::atomic<size_t> next{0};
    std::mutex mutex;
    std::condition_variable finished;
    size_t unfinished;
    std::exception_ptr error;

    void work() {
        for (;;) {
            const size_t i = next.fetch_add(1);
            if (i >= n_tasks) return;
            std::exception_ptr thrown;
            try {
                const InCall in_call(call);
                checkpoint();
                task(i);
            } catch (...) {
                thrown = std::current_exception();
            }
            size_t dropped = 0;
            if (thrown) {
                const size_t begun = next.exchange(n_tasks);
                dropped = begun < n_tasks ? n_tasks - begun : 0;
            }
            const std::lock_guard<std::mutex> lock(mutex);
            if (thrown && !error) error = std::move(thrown);
            unfinished -= 1 + dropped;
            if (unfinished == 0) finished.notify_all();
        }
    }

    void wait() {
        std::unique_lock<std::mutex> lock(mutex);
        const auto done = [this] { return unfinished == 0; };
        if (call == nullptr) finished.wait(lock, done);
        while (!finished.wait_for(lock, Call::kEvery, done)) {
            lock.unlock();
            try {
                checkpoint();
            } catch (const Stopped&) {  // those who still work hear of it, too, and their tasks live here: wait for them
            }
            lock.lock();
        }
        // Taken out of the job, which a worker that comes too late may be the one to destroy.
        if (error) std::rethrow_exception(std::exchange(error, nullptr));
        lock.unlock();
        checkpoint();
    }
};

class Pool {
public:
    void help(const std::shared_ptr<Job>& job, unsigned helpers) {
        const std::lock_guard<std::mutex> lock(mutex_);
        while (n_threads_ < helpers) {
            try {
                std::thread([this] { serve(); }).detach();
            } catch (const std::system_error&) {
                break;  // no more threads to be had: the caller's own thread does the work
            }
            ++n_threads_;
        }
        for (unsigned i = 0; i < helpers && i < n_threads_; ++i) queue_.push_back(job);
        wake_.notify_all();
    }

private:
    void serve() {
        for (;;) {
            std::shared_ptr<Job> job;
            {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [this] { return !queue_.empty(); });
                job = std::move(queue_.front());
                queue_.pop_front();
            }
            job->work();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::shared_ptr<Job>> queue_;
    unsigned n_threads_ = 0;
};

// Never destroyed: its threads are detached and may outlive static destruction. A forked child has none of the parent's
// threads and perhaps a locked mutex, so it drops the parent's pool and makes its own when it needs one.
std::atomic<Pool*> current{nullptr};

Pool& pool() {
    Pool* existing = current.load();
    if (existing == nullptr) {
        Pool* made = new Pool;
        if (current.compare_exchange_strong(existing, made)) {
#if defined(PYHASH_HAS_FORK)
            static std::once_flag registered;
            std::call_once(registered, [] { pthread_atfork(nullptr, nullptr, [] { current.store(nullptr); }); });
#endif
            return *made;
        }
        delete made;
    }
    return *existing;
}

}  // namespace

void run_tasks(size_t n_tasks, unsigned threads, const std::function<void(size_t)>& task) {
    if (n_tasks <= 1 || threads <= 1) {
        for (size_t i = 0; i < n_tasks; ++i) {
            if (i != 0) checkpoint();
            task(i);
        }
        return;
    }
    const auto job = std::make_shared<Job>(n_tasks, task);
    const size_t useful = n_tasks < threads ? n_tasks : threads;
    try {
        pool().help(job, static_cast<unsigned>(useful - 1));
    } catch (...) {  // no memory, no threads: then the caller does it with the help that there is
    }
    job->work();
    job->wait();
}

}  // namespace pyhash
