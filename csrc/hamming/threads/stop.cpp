#include "hamming/threads/stop.h"

namespace pyhash {
namespace {

thread_local Call* current = nullptr;

}  // namespace

constexpr std::chrono::milliseconds Call::kEvery;

Call* current_call() { return current; }

InCall::InCall(Call* call) : before_(current) { current = call; }
InCall::~InCall() { current = before_; }

void checkpoint() {
    if (current == nullptr) return;
    Call& call = *current;
    if (call.owner_ == std::this_thread::get_id() && !call.stopped_) {
        const auto now = std::chrono::steady_clock::now();
        const bool first = call.next_ == std::chrono::steady_clock::time_point{};
        if (!first && now >= call.next_ && call.to_stop()) call.stopped_ = true;
        if (first || now >= call.next_) call.next_ = std::chrono::steady_clock::now() + Call::kEvery;
    }
    if (call.stopped_) throw Stopped();
}

}  // namespace pyhash
