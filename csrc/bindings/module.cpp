// The module `pyhash._native`: its kernels and constants. What a kernel does is in a file a topic beside this one.
#include <string>
#include <vector>

#include "bindings/arguments.h"
#include "hamming/cpu/cpu.h"
#include "hamming/kernels/dispatch.h"

namespace py = pybind11;

PYBIND11_MODULE(_native, m, py::mod_gil_not_used()) {
    m.doc() = "The C++ core: exact Hamming search over blocked codes.";

    pyhash::bindings::remember_main_thread();
    pyhash::bindings::find_numpy();
    py::class_<pyhash::Metric>(m, "Metric")
        .def_property_readonly("largest", [](const pyhash::Metric& metric) { return metric.max_distance(0); });
    py::class_<pyhash::Kernel> kernel(m, "Kernel");
    kernel.def_property_readonly("name", [](const pyhash::Kernel& self) { return self.name; })
        .def("__repr__", [](const pyhash::Kernel& self) { return "<pyhash kernel " + std::string(self.name) + ">"; });
    pyhash::bindings::bind_storage(m, kernel);
    pyhash::bindings::bind_searches(m, kernel);
    pyhash::bindings::bind_rings(kernel);
    pyhash::bindings::bind_products(kernel);

    m.def("kernels", [] {
        py::list list;
        for (const pyhash::Kernel* kernel : pyhash::runnable_kernels(pyhash::cpu_features()))
            list.append(py::cast(kernel, py::return_value_policy::reference));
        return list;
    });
    m.def("compiled_kernels", [] {
        std::vector<std::string> list;
        for (const pyhash::Kernel* kernel : pyhash::compiled_kernels()) list.emplace_back(kernel->name);
        return list;
    });
    m.def("cpu_features", [] {
        std::vector<std::string> list;
        for (const pyhash::FeatureName& f : pyhash::kFeatureNames)
            if ((pyhash::cpu_features() & f.feature) != 0) list.emplace_back(f.name);
        return list;
    });
    m.attr("LANES") = pyhash::kLanes;
    m.attr("PAD_DISTANCE") = pyhash::kPadDistance;
    m.attr("PAD_ID") = pyhash::kPadId;
    m.attr("MAX_RING_WORDS") = pyhash::kMaxRingWords;
}
