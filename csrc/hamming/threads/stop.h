// Stopping a long call from outside, as Ctrl-C does.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <thread>

namespace pyhash {

// Leaves a call that is to stop.
struct Stopped : std::exception {
    const char* what() const noexcept override { return "stopped"; }
};

// A call that can be stopped. The thread that made it asks now and then, and all that work for it hear of the answer.
class Call {
public:
    static constexpr std::chrono::milliseconds kEvery{25};

    virtual ~Call() = default;

    // Whether to stop; asked on the thread that made the call, with no lock held.
    virtual bool to_stop() = 0;

private:
    friend void checkpoint();

    const std::thread::id owner_ = std::this_thread::get_id();
    std::chrono::steady_clock::time_point next_{};  // when to ask again; none before the first checkpoint
    std::atomic<bool> stopped_{false};
};

// The call that this thread works for; null outside of one.
Call* current_call();

// Works for a call while it lives.
class InCall {
public:
    explicit InCall(Call* call);
    ~InCall();
    InCall(const InCall&) = delete;
    InCall& operator=(const InCall&) = delete;

private:
    Call* before_;
};

// Throws Stopped when the call that this thread works for is to stop. Cheap; long work comes here every few milliseconds.
void checkpoint();

// std::sort, which a call that is to stop leaves; the order is undefined then.
template <class Iterator, class Less>
void sort_stoppable(Iterator begin, Iterator end, const Less& less) {
    if (end - begin < 1 << 16) {
        std::sort(begin, end, less);
        return;
    }
    unsigned n = 0;
    std::sort(begin, end, [&](const auto& a, const auto& b) {
        if (++n % (1 << 16) == 0) checkpoint();
        return less(a, b);
    });
}

}  // namespace pyhash
