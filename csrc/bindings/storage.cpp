// Segments, and rows of words in and out of their chunks.
#include "bindings/arguments.h"
#include "hamming/search/blocks.h"

namespace pyhash {
namespace bindings {
namespace {

// What a stored ring is made of, once its shapes are right; the core checks what is in it.
RingView as_ring(const Segment& segment, const Array<uint64_t>& centres, const Array<uint32_t>& least,
                         const Array<uint32_t>& first, const Array<uint32_t>& starts) {
    require(centres.ndim() == 3 && centres.shape(2) == static_cast<py::ssize_t>(kLanes) &&
                static_cast<size_t>(centres.shape(1)) == segment.n_words,
            "centres must have shape (blocks, n_words, 64)");
    require(first.size() == least.size() + 1, "first must have one entry more than least");
    return {centres.data(), static_cast<size_t>(centres.shape(0)), least.data(), static_cast<size_t>(least.size()),
            first.data(), starts.data(), static_cast<size_t>(starts.size())};
}

}  // namespace

SegmentView::SegmentView(const std::vector<Array<uint64_t>>& chunks, size_t n_codes, int64_t first_id,
                         const std::optional<Array<int64_t>>& ids, const std::optional<Array<uint64_t>>& dead,
                         const std::optional<RingArrays>& parts) {
    for (const Array<uint64_t>& chunk : chunks) {
        require(chunk.ndim() == 3 && chunk.shape(2) == static_cast<py::ssize_t>(kLanes),
                "each chunk must have shape (blocks, n_words, 64)");
        const size_t blocks = static_cast<size_t>(chunk.shape(0));
        if (segment.chunks.empty()) {
            segment.n_words = static_cast<size_t>(chunk.shape(1));
            segment.blocks_per_chunk = blocks;
        }
        require(static_cast<size_t>(chunk.shape(1)) == segment.n_words, "chunks must have the same number of words");
        require(capacity % (segment.blocks_per_chunk * kLanes) == 0, "all chunks but the last must be of one size");
        require(blocks <= segment.blocks_per_chunk && blocks > 0, "no chunk may be larger than the first, or empty");
        capacity += blocks * kLanes;
        segment.chunks.push_back(chunk.data());
        owners.push_back(chunk);
    }
    require(n_codes <= capacity, "n_codes must fit in the chunks");
    segment.n_codes = n_codes;
    segment.first_id = first_id;
    if (ids) {
        require(ids->ndim() == 1 && static_cast<size_t>(ids->size()) >= n_codes, "ids must have one entry a code");
        segment.ids = ids->data();
        owners.push_back(*ids);
    }
    if (dead) {
        require(dead->ndim() == 1 && static_cast<size_t>(dead->size()) >= segment.n_blocks(),
                "dead must have one word a block");
        segment.dead = dead->data();
        owners.push_back(*dead);
    }
    if (parts) {
        const auto& [order, centres, least, first, starts] = *parts;
        require(order.ndim() == 1 && static_cast<size_t>(order.size()) == n_codes, "order must have one entry a code");
        segment.order = order.data();
        owners.push_back(order);
        owners.push_back(centres);
        ring = make_ring(segment, as_ring(segment, centres, least, first, starts));
        segment.ring = ring.get();
    }
}

namespace {

SegmentView* make_segment(const Kernel&, const std::vector<Array<uint64_t>>& chunks, size_t n_codes, int64_t first_id,
                          const std::optional<Array<int64_t>>& ids, const std::optional<Array<uint64_t>>& dead,
                          const std::optional<RingArrays>& ring) {
    return new SegmentView(chunks, n_codes, first_id, ids, dead, ring);
}

// Copying fewer words than this takes less time than another thread would gain.
constexpr size_t kManyWords = 8192;

Array<uint64_t> read_rows(const Kernel&, const std::vector<Array<uint64_t>>& chunks, const Array<int64_t>& slots) {
    require(slots.ndim() == 1, "slots must have shape (n,)");
    SegmentView view(chunks, 0, 0, std::nullopt, std::nullopt, std::nullopt);
    view.segment.n_codes = view.capacity;
    const size_t n = static_cast<size_t>(slots.size());
    Array<uint64_t> rows({n, view.segment.n_words});
    const int64_t* from = slots.data();
    uint64_t* to = rows.mutable_data();
    without_gil_if(n * view.segment.n_words >= kManyWords, [&] { ::pyhash::read_rows(view.segment, from, n, to); });
    return rows;
}

}  // namespace

void bind_storage(py::module_& module, py::class_<Kernel>& kernel) {
    py::class_<SegmentView>(module, "Segment").def("ring_counters", [](const SegmentView& view) -> py::object {
        if (!view.ring) return py::none();
        return py::make_tuple(view.ring->answered.load(), view.ring->handed_back.load(), view.ring->codes_scanned.load());
    });
    kernel
        .def("segment", &make_segment, py::arg("chunks"), py::arg("n_codes"), py::arg("first_id"),
             py::arg("ids").none(true), py::arg("dead").none(true), py::arg("ring").none(true) = py::none())
        .def("read_rows", &read_rows, py::arg("chunks"), py::arg("slots"));
}

}  // namespace bindings
}  // namespace pyhash
