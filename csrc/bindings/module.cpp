// The only file that sees Python: check what memory safety needs, release the GIL, call. Everything else was checked in
// Python, and pyhash/_native.pyi says what each function takes and returns.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#ifdef __GLIBCXX__
#include <cxxabi.h>
#endif

#include "hamming/cpu/cpu.h"
#include "hamming/kernels/dispatch.h"
#include "hamming/probes/machine.h"
#include "hamming/ring/ring.h"
#include "hamming/search/blocks.h"
#include "hamming/search/search.h"

namespace py = pybind11;
using pyhash::kLanes;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

void require(bool condition, const char* message) {
    if (!condition) throw std::invalid_argument(message);
}

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

// Does work while other threads may run Python.
template <class Work>
void without_gil(Work&& work) {
    PyThreadState* state = PyEval_SaveThread();
    try {
        work();
    } catch (...) {
        take_gil(state);
        throw;
    }
    take_gil(state);
}

// What a stored ring is made of, once its shapes are right; the core checks what is in it.
pyhash::RingView as_ring(const pyhash::Segment& segment, const Array<uint64_t>& centres, const Array<uint32_t>& least,
                         const Array<uint32_t>& first, const Array<uint32_t>& starts) {
    require(centres.ndim() == 3 && centres.shape(2) == static_cast<py::ssize_t>(kLanes) &&
                static_cast<size_t>(centres.shape(1)) == segment.n_words,
            "centres must have shape (blocks, n_words, 64)");
    require(first.size() == least.size() + 1, "first must have one entry more than least");
    return {centres.data(), static_cast<size_t>(centres.shape(0)), least.data(), static_cast<size_t>(least.size()),
            first.data(), starts.data(), static_cast<size_t>(starts.size())};
}

using RingArrays = std::tuple<Array<uint32_t>, Array<uint64_t>, Array<uint32_t>, Array<uint32_t>, Array<uint32_t>>;

// A segment and the arrays that own its memory.
struct SegmentView {
    pyhash::Segment segment;
    std::unique_ptr<pyhash::Ring> ring;
    size_t capacity = 0;
    std::vector<py::object> owners;

    SegmentView(const std::vector<Array<uint64_t>>& chunks, size_t n_codes, int64_t first_id,
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
            ring = pyhash::make_ring(segment, as_ring(segment, centres, least, first, starts));
            segment.ring = ring.get();
        }
    }
};

pyhash::Metric make_metric(const pyhash::Kernel&, const Array<uint32_t>& words, const Array<uint64_t>& masks, const Array<uint32_t>& weights) {
    require(words.ndim() == 1 && words.size() > 0 && masks.size() == words.size() && weights.size() == words.size(),
            "words, masks and weights must have the same length");
    pyhash::Metric metric;
    for (py::ssize_t i = 0; i < words.size(); ++i) metric.terms.push_back({masks.at(i), words.at(i), weights.at(i)});
    return metric;
}

pyhash::Queries as_queries(const Array<uint64_t>& words) {
    require(words.ndim() == 2, "words must have shape (n, n_words)");
    return {words.data(), static_cast<size_t>(words.shape(0)), static_cast<size_t>(words.shape(1))};
}

using Allowed = std::optional<std::vector<Array<uint64_t>>>;

pyhash::Target as_target(const std::vector<SegmentView*>& views, const Allowed& allowed, size_t n_words) {
    pyhash::Target target;
    for (const SegmentView* view : views) {
        require(view->segment.n_codes == 0 || view->segment.n_words == n_words, "queries and codes must be of one width");
        target.segments.push_back(&view->segment);
    }
    if (allowed) {
        require(allowed->size() == views.size(), "allowed must have one array a segment");
        for (size_t s = 0; s < views.size(); ++s) {
            const Array<uint64_t>& mask = (*allowed)[s];
            require(mask.ndim() == 1 && static_cast<size_t>(mask.size()) >= views[s]->segment.n_blocks(),
                    "allowed must have one word a block");
            target.allowed.push_back(mask.data());
        }
    }
    return target;
}

const pyhash::Metric& checked(const pyhash::Metric* metric, size_t n_words) {
    static const pyhash::Metric plain;
    if (metric == nullptr) return plain;
    for (const pyhash::Term& term : metric->terms) require(term.word < n_words, "a term's word must be below n_words");
    return *metric;
}

py::tuple topk(const pyhash::Kernel& kernel, const std::vector<SegmentView*>& segments, const Array<uint64_t>& queries,
               const pyhash::Metric* metric, size_t k, const Allowed& allowed, unsigned threads) {
    const pyhash::Queries q = as_queries(queries);
    const pyhash::Target target = as_target(segments, allowed, q.n_words);
    const pyhash::Metric& m = checked(metric, q.n_words);
    Array<int32_t> distances({q.n, k});
    Array<int64_t> ids({q.n, k});
    int32_t* d = distances.mutable_data();
    int64_t* i = ids.mutable_data();
    without_gil([&] {
        pyhash::topk(kernel, target, q, m, k, threads, d, i);
    });
    return py::make_tuple(std::move(distances), std::move(ids));
}

py::tuple within(const pyhash::Kernel& kernel, const std::vector<SegmentView*>& segments, const Array<uint64_t>& queries,
                 const pyhash::Metric* metric, uint32_t radius, const Allowed& allowed, unsigned threads) {
    const pyhash::Queries q = as_queries(queries);
    const pyhash::Target target = as_target(segments, allowed, q.n_words);
    const pyhash::Metric& m = checked(metric, q.n_words);
    std::vector<std::vector<pyhash::Candidate>> found;
    without_gil([&] {
        found = pyhash::within(kernel, target, q, m, radius, threads);
    });
    Array<int64_t> offsets(static_cast<py::ssize_t>(q.n + 1));
    int64_t* o = offsets.mutable_data();
    o[0] = 0;
    for (size_t j = 0; j < q.n; ++j) o[j + 1] = o[j] + static_cast<int64_t>(found[j].size());
    Array<int32_t> distances(static_cast<py::ssize_t>(o[q.n]));
    Array<int64_t> ids(static_cast<py::ssize_t>(o[q.n]));
    int32_t* d = distances.mutable_data();
    int64_t* i = ids.mutable_data();
    without_gil([&] {
        for (std::vector<pyhash::Candidate>& list : found) {
            for (const pyhash::Candidate& c : list) {
                *d++ = static_cast<int32_t>(c.distance);
                *i++ = c.id;
            }
            std::vector<pyhash::Candidate>().swap(list);
        }
    });
    return py::make_tuple(std::move(offsets), std::move(distances), std::move(ids));
}

py::tuple pairs(const pyhash::Kernel& kernel, const std::vector<SegmentView*>& segments, uint32_t radius, unsigned threads) {
    size_t n_words = 0;
    for (const SegmentView* view : segments) n_words = std::max(n_words, view->segment.n_words);
    const pyhash::Target target = as_target(segments, std::nullopt, n_words);
    std::vector<pyhash::Pair> found;
    without_gil([&] {
        found = pyhash::pairs(kernel, target, radius, threads);
    });
    const py::ssize_t n = static_cast<py::ssize_t>(found.size());
    Array<int64_t> i(n);
    Array<int64_t> j(n);
    Array<int32_t> distances(n);
    int64_t* pi = i.mutable_data();
    int64_t* pj = j.mutable_data();
    int32_t* pd = distances.mutable_data();
    without_gil([&] {
        for (const pyhash::Pair& pair : found) {
            *pi++ = pair.i;
            *pj++ = pair.j;
            *pd++ = static_cast<int32_t>(pair.distance);
        }
    });
    return py::make_tuple(std::move(i), std::move(j), std::move(distances));
}

py::tuple rerank(const pyhash::Kernel& kernel, const std::vector<SegmentView*>& segments, const Array<uint64_t>& queries,
                 const Array<int64_t>& slots, const pyhash::Metric* metric, size_t k, unsigned threads) {
    const pyhash::Queries q = as_queries(queries);
    const pyhash::Target target = as_target(segments, std::nullopt, q.n_words);
    const pyhash::Metric& m = checked(metric, q.n_words);
    require(slots.ndim() == 2 && static_cast<size_t>(slots.shape(0)) == q.n, "slots must have one row a query");
    Array<int32_t> distances({q.n, k});
    Array<int64_t> ids({q.n, k});
    const int64_t* from = slots.data();
    const size_t n_slots = static_cast<size_t>(slots.shape(1));
    int32_t* d = distances.mutable_data();
    int64_t* i = ids.mutable_data();
    without_gil([&] {
        pyhash::rerank(kernel, target, q, from, n_slots, m, k, threads, d, i);
    });
    return py::make_tuple(std::move(distances), std::move(ids));
}

Array<int32_t> hamming(const pyhash::Kernel& kernel, const Array<uint64_t>& a, const Array<uint64_t>& b, unsigned threads) {
    const pyhash::Queries left = as_queries(a);
    const pyhash::Queries right = as_queries(b);
    require(left.n_words == right.n_words, "a and b must be of one width");
    Array<int32_t> distances({left.n, right.n});
    int32_t* d = distances.mutable_data();
    without_gil([&] {
        pyhash::hamming(kernel, left, right, threads, d);
    });
    return distances;
}

template <class T>
Array<T> as_array(const std::vector<T>& values) {
    Array<T> array(static_cast<py::ssize_t>(values.size()));
    std::copy(values.begin(), values.end(), array.mutable_data());
    return array;
}

void check_clusterable(const SegmentView& view) {
    const pyhash::Segment& segment = view.segment;
    require(segment.n_codes > 0 && segment.n_codes <= UINT32_MAX && segment.n_words <= pyhash::kMaxRingWords,
            "a ring needs 1 to 2**32 - 1 codes of at most 64 words");
    require(segment.dead == nullptr && segment.order == nullptr, "a ring is made of a flat segment without removed slots");
}

py::tuple choose_clusters(const pyhash::Kernel& kernel, const SegmentView& view, unsigned threads) {
    check_clusterable(view);
    pyhash::RingChoice choice{};
    without_gil([&] {
        choice = pyhash::choose_clusters(kernel, view.segment, threads);
    });
    return py::make_tuple(choice.n_clusters, choice.share);
}

py::object build_ring(const pyhash::Kernel& kernel, const SegmentView& view, size_t n_clusters, unsigned threads) {
    check_clusterable(view);
    require(n_clusters > 0, "n_clusters must be at least 1");
    pyhash::RingParts parts;
    without_gil([&] {
        parts = pyhash::build_ring(kernel, view.segment, n_clusters, threads);
    });
    const size_t n_words = view.segment.n_words;
    return py::module_::import("pyhash.backend.contract")
        .attr("Ring")(as_array(parts.order), as_array(parts.centres).reshape(
            std::vector<py::ssize_t>{-1, static_cast<py::ssize_t>(n_words), static_cast<py::ssize_t>(kLanes)}), as_array(parts.least), as_array(parts.first), as_array(parts.starts));
}

// A chunk `(blocks, n_words, 64)` to be written to.
pyhash::BlocksOut writable(Array<uint64_t>& chunk, size_t n_words) {
    require(chunk.ndim() == 3 && static_cast<size_t>(chunk.shape(1)) == n_words &&
                chunk.shape(2) == static_cast<py::ssize_t>(kLanes) && chunk.writeable(),
            "each chunk must be writable and have shape (blocks, n_words, 64)");
    return {chunk.mutable_data(), static_cast<size_t>(chunk.shape(0))};
}

void permute(const pyhash::Kernel&, const SegmentView& view, const Array<uint32_t>& order,
             std::vector<Array<uint64_t>>& chunks) {
    const pyhash::Segment& segment = view.segment;
    require(static_cast<size_t>(order.size()) == segment.n_codes, "order must have one entry a code");
    std::vector<pyhash::BlocksOut> out;
    size_t room = 0;
    for (Array<uint64_t>& chunk : chunks) {
        out.push_back(writable(chunk, segment.n_words));
        room += out.back().n_blocks * kLanes;
    }
    require(room >= segment.n_codes, "the codes must fit in the chunks");
    const uint32_t* from = order.data();
    without_gil([&] { pyhash::permute(segment, from, out); });
}

// Copying fewer words than this takes less time than another thread would gain.
constexpr size_t kManyWords = 8192;

template <class Work>
void without_gil_if(bool large, Work&& work) {
    if (large)
        without_gil(work);
    else
        work();
}

void write_rows(const pyhash::Kernel&, Array<uint64_t>& chunk, size_t slot, const Array<uint64_t>& words) {
    const pyhash::Queries rows = as_queries(words);
    const pyhash::BlocksOut out = writable(chunk, rows.n_words);
    const size_t room = out.n_blocks * kLanes;
    require(slot <= room && rows.n <= room - slot, "the codes must fit in the chunk");
    without_gil_if(rows.n * rows.n_words >= kManyWords,
                   [&] { pyhash::write_rows(rows.words, rows.n, rows.n_words, out.blocks, slot); });
}

Array<uint64_t> read_rows(const pyhash::Kernel&, const std::vector<Array<uint64_t>>& chunks, const Array<int64_t>& slots) {
    require(slots.ndim() == 1, "slots must have shape (n,)");
    SegmentView view(chunks, 0, 0, std::nullopt, std::nullopt, std::nullopt);
    view.segment.n_codes = view.capacity;
    const size_t n = static_cast<size_t>(slots.size());
    Array<uint64_t> rows({n, view.segment.n_words});
    const int64_t* from = slots.data();
    uint64_t* to = rows.mutable_data();
    without_gil_if(n * view.segment.n_words >= kManyWords, [&] { pyhash::read_rows(view.segment, from, n, to); });
    return rows;
}

SegmentView* make_segment(const pyhash::Kernel&, const std::vector<Array<uint64_t>>& chunks, size_t n_codes, int64_t first_id,
                          const std::optional<Array<int64_t>>& ids, const std::optional<Array<uint64_t>>& dead,
                          const std::optional<RingArrays>& ring) {
    return new SegmentView(chunks, n_codes, first_id, ids, dead, ring);
}

}  // namespace

PYBIND11_MODULE(_native, m, py::mod_gil_not_used()) {
    m.doc() = "The C++ core: exact Hamming search over blocked codes.";

    py::class_<SegmentView>(m, "Segment").def("ring_counters", [](const SegmentView& view) -> py::object {
        if (!view.ring) return py::none();
        return py::make_tuple(view.ring->answered.load(), view.ring->handed_back.load(), view.ring->codes_scanned.load());
    });
    py::class_<pyhash::Metric>(m, "Metric")
        .def_property_readonly("largest", [](const pyhash::Metric& metric) { return metric.max_distance(0); });

    py::class_<pyhash::Kernel> kernel(m, "Kernel");
    kernel.attr("rings") = true;  // every search asks
    kernel
        .def_property_readonly("name", [](const pyhash::Kernel& kernel) { return kernel.name; })
        .def("segment", &make_segment, py::arg("chunks"), py::arg("n_codes"), py::arg("first_id"),
             py::arg("ids").none(true), py::arg("dead").none(true), py::arg("ring").none(true) = py::none())
        .def("metric", &make_metric, py::arg("words"), py::arg("masks"), py::arg("weights"))
        .def("topk", &topk, py::arg("segments"), py::arg("queries"), py::arg("metric").none(true), py::arg("k"),
             py::arg("allowed").none(true), py::arg("threads"))
        .def("within", &within, py::arg("segments"), py::arg("queries"), py::arg("metric").none(true),
             py::arg("radius"), py::arg("allowed").none(true), py::arg("threads"))
        .def("pairs", &pairs, py::arg("segments"), py::arg("radius"), py::arg("threads"))
        .def("rerank", &rerank, py::arg("segments"), py::arg("queries"), py::arg("slots"), py::arg("metric").none(true),
             py::arg("k"), py::arg("threads"))
        .def("hamming", &hamming, py::arg("a"), py::arg("b"), py::arg("threads"))
        .def("write_rows", &write_rows, py::arg("chunk").noconvert(), py::arg("slot"), py::arg("words"))
        .def("read_rows", &read_rows, py::arg("chunks"), py::arg("slots"))
        .def("choose_clusters", &choose_clusters, py::arg("segment"), py::arg("threads"))
        .def("build_ring", &build_ring, py::arg("segment"), py::arg("n_clusters"), py::arg("threads"))
        .def("permute", &permute, py::arg("segment"), py::arg("order"), py::arg("chunks").noconvert())
        .def("__repr__", [](const pyhash::Kernel& kernel) { return "<pyhash kernel " + std::string(kernel.name) + ">"; });

    m.def(
        "read_words",
        [](const Array<uint64_t>& words) {
            const uint64_t* p = words.data();
            const size_t n = static_cast<size_t>(words.size());
            uint64_t sum = 0;
            without_gil([&] { sum = pyhash::read_words(p, n); });
            return sum;
        },
        py::arg("words"));
    m.def(
        "scan_cached",
        [](const pyhash::Kernel& kernel, size_t n_words, size_t n_codes) {
            require(n_words > 0 && n_words <= 1024, "n_words must be 1 to 1024");
            size_t sum = 0;
            without_gil([&] { sum = pyhash::scan_cached(kernel, n_words, n_codes); });
            return sum;
        },
        py::arg("kernel"), py::arg("n_words"), py::arg("n_codes"));

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
    m.attr("LANES") = kLanes;
    m.attr("PAD_DISTANCE") = pyhash::kPadDistance;
    m.attr("PAD_ID") = pyhash::kPadId;
    m.attr("MAX_RING_WORDS") = pyhash::kMaxRingWords;
    m.def("cpu_features", [] {
        std::vector<std::string> list;
        for (const pyhash::FeatureName& f : pyhash::kFeatureNames)
            if ((pyhash::cpu_features() & f.feature) != 0) list.emplace_back(f.name);
        return list;
    });
}
