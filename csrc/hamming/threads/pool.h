// Threads: started when first needed, kept for the next call, and started anew in a forked child.
#pragma once

#include <cstddef>
#include <functional>

namespace pyhash {

// The CPUs that this process may run on, at least 1.
unsigned available_cpus();

// Calls task(0) ... task(n_tasks - 1), at most `threads` at a time, the calling thread being one of them. Returns when all
// are done; the first exception thrown by a task is thrown again here, and tasks not yet begun are dropped.
// So are they when the call is to stop (stop.h): Stopped is thrown.
void run_tasks(size_t n_tasks, unsigned threads, const std::function<void(size_t)>& task);

}  // namespace pyhash
