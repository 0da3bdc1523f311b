#include "bindings/arguments.h"

#ifdef __GLIBCXX__
#include <cxxabi.h>
#endif

#include <chrono>
#include <thread>

namespace pyhash {
namespace bindings {

// Takes the GIL back. When the interpreter is at its end, Python up to 3.13 ends the thread that asks, by unwinding its
// stack where glibc has the say: through destructors, which would let go of Python objects without the GIL, and out of a
// destructor it would abort the process. So such a thread stays here, as Python 3.14 has it stay, until the process ends.
void take_gil(PyThreadState* state) {
#ifdef __GLIBCXX__
    try {
        PyEval_RestoreThread(state);
    } catch (const abi::__forced_unwind&) {
        for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
#else
    PyEval_RestoreThread(state);
#endif
}

namespace {

unsigned long main_thread = 0;

}  // namespace

void remember_main_thread() {
    main_thread = py::module_::import("threading").attr("main_thread")().attr("ident").cast<unsigned long>();
}

WithoutGil::WithoutGil(PyThreadState*& state) : state_(state), main_thread_(PyThread_get_thread_ident() == main_thread) {}

bool WithoutGil::to_stop() {
    if (!main_thread_) return false;
    take_gil(state_);
    const bool raised = PyErr_CheckSignals() != 0;
    state_ = PyEval_SaveThread();
    return raised;
}

Queries as_queries(const Array<uint64_t>& words) {
    require(words.ndim() == 2, "words must have shape (n, n_words)");
    return {words.data(), static_cast<size_t>(words.shape(0)), static_cast<size_t>(words.shape(1))};
}

BlocksOut writable(Array<uint64_t>& chunk, size_t n_words) {
    require(chunk.ndim() == 3 && static_cast<size_t>(chunk.shape(1)) == n_words &&
                chunk.shape(2) == static_cast<py::ssize_t>(kLanes) && chunk.writeable(),
            "each chunk must be writable and have shape (blocks, n_words, 64)");
    return {chunk.mutable_data(), static_cast<size_t>(chunk.shape(0))};
}

}  // namespace bindings
}  // namespace pyhash
