// What all bindings share. They check what memory safety needs, release the GIL and call; everything else was checked in
// Python, and pyhash/backend/contract.py says what each method takes and returns.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "hamming/ring/ring.h"
#include "hamming/search/blocks.h"
#include "hamming/search/search.h"
#include "hamming/threads/stop.h"

namespace pyhash {
namespace bindings {

namespace py = pybind11;

template <class T>
using Array = py::array_t<T, py::array::c_style>;

inline void require(bool condition, const char* message) {
    if (!condition) throw std::invalid_argument(message);
}

// Takes the GIL back, of which a thread was rid by PyEval_SaveThread. Never in a destructor: arguments.cpp says why.
void take_gil(PyThreadState* state);

// Remembers which thread Python sends signals to; called when the module is loaded.
void remember_main_thread();

// Looks up NumPy's functions, to be called when a module is loaded. pybind11 does it at the first array it is given, and
// lets go of the GIL for it, which it takes back in a destructor: arguments.cpp says what comes of that.
inline void find_numpy() { py::dtype::of<uint64_t>(); }

// A call without the GIL. On Python's main thread it takes it back now and then for signal handlers, and is to stop when
// one raises, as that of Ctrl-C does; the error is then set.
class WithoutGil final : public Call {
public:
    explicit WithoutGil(PyThreadState*& state);
    bool to_stop() override;

private:
    PyThreadState*& state_;
    bool main_thread_;
};

// Does work while other threads may run Python.
template <class Work>
void without_gil(Work&& work) {
    PyThreadState* state = PyEval_SaveThread();
    WithoutGil call(state);
    try {
        const InCall in_call(&call);
        work();
    } catch (...) {
        take_gil(state);
        if (PyErr_Occurred() != nullptr) throw py::error_already_set();
        throw;
    }
    take_gil(state);
}

template <class Work>
void without_gil_if(bool large, Work&& work) {
    if (large)
        without_gil(work);
    else
        work();
}

// order, centres, least, first, starts
using RingArrays = std::tuple<Array<uint32_t>, Array<uint64_t>, Array<uint32_t>, Array<uint32_t>, Array<uint32_t>>;

// A segment and the arrays that own its memory.
struct SegmentView {
    Segment segment;
    std::unique_ptr<Ring> ring;
    size_t capacity = 0;
    std::vector<py::object> owners;

    SegmentView(const std::vector<Array<uint64_t>>& chunks, size_t n_codes, int64_t first_id,
                const std::optional<Array<int64_t>>& ids, const std::optional<Array<uint64_t>>& dead,
                const std::optional<RingArrays>& parts);
};

// Rows of words `(n, n_words)`.
Queries as_queries(const Array<uint64_t>& words);

template <class T>
Array<T> as_array(const std::vector<T>& values) {
    Array<T> array(static_cast<py::ssize_t>(values.size()));
    std::copy(values.begin(), values.end(), array.mutable_data());
    return array;
}

// A chunk `(blocks, n_words, 64)` to be written to.
BlocksOut writable(Array<uint64_t>& chunk, size_t n_words);

// A topic a file; each adds its methods to the class.
void bind_searches(py::module_& module, py::class_<Kernel>& kernel);
void bind_storage(py::module_& module, py::class_<Kernel>& kernel);
void bind_rings(py::class_<Kernel>& kernel);
void bind_products(py::class_<Kernel>& kernel);

}  // namespace bindings
}  // namespace pyhash
