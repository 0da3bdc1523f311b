// The module `pyhash.bench._probes`: what only benchmarks need. It takes the kernels of `pyhash._native`.
#include <cstdint>
#include <stdexcept>

#include "bindings/arguments.h"
#include "hamming/probes/probes.h"

namespace py = pybind11;

PYBIND11_MODULE(_probes, m, py::mod_gil_not_used()) {
    m.doc() = "The limits of this machine that a search can be compared with.";
    pyhash::bindings::find_numpy();
    py::module_::import("pyhash._native");  // knows the type of a kernel
    m.def(
        "read_words",
        [](const py::array_t<uint64_t, py::array::c_style>& words) {
            return pyhash::read_words(words.data(), static_cast<size_t>(words.size()));
        },
        py::arg("words"));
    m.def(
        "scan_cached",
        [](const pyhash::Kernel& kernel, size_t n_words, size_t n_codes) {
            if (n_words == 0 || n_words > 1024) throw std::invalid_argument("n_words must be 1 to 1024");
            return pyhash::scan_cached(kernel, n_words, n_codes);
        },
        py::arg("kernel"), py::arg("n_words"), py::arg("n_codes"));
}
