// Building rings.
#include <utility>

#include "bindings/arguments.h"
#include "hamming/search/blocks.h"

namespace pyhash {
namespace bindings {
namespace {

void check_clusterable(const SegmentView& view) {
    const Segment& segment = view.segment;
    require(segment.n_codes > 0 && segment.n_codes <= UINT32_MAX && segment.n_words <= kMaxRingWords,
            "a ring needs 1 to 2**32 - 1 codes of at most 64 words");
    require(segment.dead == nullptr && segment.order == nullptr, "a ring is made of a flat segment without removed slots");
}

py::tuple choose_clusters(const Kernel& kernel, const SegmentView& view, unsigned threads) {
    check_clusterable(view);
    RingChoice choice{};
    without_gil([&] {
        choice = ::pyhash::choose_clusters(kernel, view.segment, threads);
    });
    return py::make_tuple(choice.n_clusters, choice.share);
}

py::object build_ring(const Kernel& kernel, const SegmentView& view, size_t n_clusters, unsigned threads) {
    check_clusterable(view);
    require(n_clusters > 0, "n_clusters must be at least 1");
    RingParts parts;
    without_gil([&] {
        parts = ::pyhash::build_ring(kernel, view.segment, n_clusters, threads);
    });
    const std::vector<py::ssize_t> blocks{-1, static_cast<py::ssize_t>(view.segment.n_words), static_cast<py::ssize_t>(kLanes)};
    const py::object ring = py::module_::import("pyhash.backend.contract").attr("Ring");
    return ring(as_array(parts.order), as_array(parts.centres).reshape(blocks), as_array(parts.least),
                as_array(parts.first), as_array(parts.starts));
}

void permute(const Kernel&, const SegmentView& view, const Array<uint32_t>& order,
             std::vector<Array<uint64_t>>& chunks) {
    const Segment& segment = view.segment;
    require(static_cast<size_t>(order.size()) == segment.n_codes, "order must have one entry a code");
    std::vector<BlocksOut> out;
    size_t room = 0;
    for (Array<uint64_t>& chunk : chunks) {
        out.push_back(writable(chunk, segment.n_words));
        room += out.back().n_blocks * kLanes;
    }
    require(room >= segment.n_codes, "the codes must fit in the chunks");
    const uint32_t* from = order.data();
    without_gil([&] { ::pyhash::permute(segment, from, out); });
}

}  // namespace

void bind_rings(py::class_<Kernel>& kernel) {
    kernel.attr("rings") = true;  // no property: every search asks
    kernel.def("choose_clusters", &choose_clusters, py::arg("segment"), py::arg("threads"))
        .def("build_ring", &build_ring, py::arg("segment"), py::arg("n_clusters"), py::arg("threads"))
        .def("permute", &permute, py::arg("segment"), py::arg("order"), py::arg("chunks").noconvert());
}

}  // namespace bindings
}  // namespace pyhash
