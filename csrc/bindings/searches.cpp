// Metrics, and what is searched with them.
#include <cstring>
#include <limits>

#include "bindings/arguments.h"
#include "hamming/join/groups.h"
#include "hamming/join/join.h"
#include "hamming/search/plan.h"

namespace pyhash {
namespace bindings {
namespace {

Metric make_metric(const Kernel&, const Array<uint32_t>& words, const Array<uint64_t>& masks, const Array<uint32_t>& weights) {
    require(words.ndim() == 1 && words.size() > 0 && masks.size() == words.size() && weights.size() == words.size(),
            "words, masks and weights must have the same length");
    Metric metric;
    for (py::ssize_t i = 0; i < words.size(); ++i) metric.terms.push_back({masks.at(i), words.at(i), weights.at(i)});
    return metric;
}

using Allowed = std::optional<std::vector<Array<uint64_t>>>;

// What a kernel searches, and the Python objects that own its memory.
struct TargetView {
    Target target;
    size_t n_words = 0;  // of its codes; 0 without any
    std::vector<py::object> owners;
};

TargetView* make_target(const Kernel&, const py::sequence& segments, const Allowed& allowed) {
    auto made = std::make_unique<TargetView>();
    for (const py::handle& segment : segments) {
        if (!py::isinstance<SegmentView>(segment)) throw py::type_error("segments must be those of this kernel");
        const Segment& own = segment.cast<const SegmentView&>().segment;
        if (own.n_codes != 0) {
            require(made->n_words == 0 || made->n_words == own.n_words, "codes of all segments must be of one width");
            made->n_words = own.n_words;
        }
        made->target.segments.push_back(&own);
        made->owners.push_back(py::reinterpret_borrow<py::object>(segment));
    }
    if (allowed) {
        require(allowed->size() == made->owners.size(), "allowed must have one array a segment");
        for (size_t s = 0; s < allowed->size(); ++s) {
            const Array<uint64_t>& mask = (*allowed)[s];
            require(mask.ndim() == 1 && static_cast<size_t>(mask.size()) >= made->target.segments[s]->n_blocks(),
                    "allowed must have one word a block");
            made->target.allowed.push_back(mask.data());
            made->owners.push_back(mask);
        }
    }
    return made.release();
}

// Packed codes as words: where they lie, if their memory allows.
class Packed {
public:
    Packed(const py::array& codes, const TargetView& view) : one_(codes.ndim() == 1) {
        require((one_ || codes.ndim() == 2) && codes.dtype().num() == py::detail::npy_api::NPY_UBYTE_ &&
                    (codes.flags() & py::array::c_style) != 0,
                "queries must be C-contiguous uint8 of shape (n, n_bytes) or (n_bytes,)");
        const size_t n_bytes = static_cast<size_t>(codes.shape(codes.ndim() - 1));
        queries_.n = one_ ? 1 : static_cast<size_t>(codes.shape(0));
        queries_.n_words = (n_bytes + 7) / 8;
        require(view.n_words == 0 || view.n_words == queries_.n_words, "queries and codes must be of one width");
        const uint8_t* bytes = static_cast<const uint8_t*>(codes.data());
        if (n_bytes % sizeof(uint64_t) == 0 && reinterpret_cast<uintptr_t>(bytes) % alignof(uint64_t) == 0) {
            queries_.words = reinterpret_cast<const uint64_t*>(bytes);
            return;
        }
        words_.resize(queries_.n * queries_.n_words, 0);
        for (size_t j = 0; j < queries_.n; ++j)
            std::memcpy(words_.data() + j * queries_.n_words, bytes + j * n_bytes, n_bytes);
        queries_.words = words_.data();
    }

    const Queries& queries() const { return queries_; }

    template <class T>
    Array<T> answer(size_t k) const {
        if (one_) return Array<T>(static_cast<py::ssize_t>(k));
        return Array<T>({queries_.n, k});
    }

private:
    bool one_;
    Queries queries_{};
    std::vector<uint64_t> words_;
};

// A metric, or None. pybind11 looks for other modules' types before it takes None for a pointer, which costs as much as a short
// search.
const Metric& checked(const py::object& metric, size_t n_words) {
    static const Metric plain;
    if (metric.is_none()) return plain;
    if (!py::isinstance<Metric>(metric)) throw py::type_error("metric must be one of this kernel");
    const Metric& own = metric.cast<const Metric&>();
    for (const Term& term : own.terms) require(term.word < n_words, "a term's word must be below n_words");
    return own;
}

// Words of blocks: a search of fewer takes as long as it takes to let another thread have the GIL.
constexpr size_t kShortSearch = 512;

py::tuple topk(const Kernel& kernel, const TargetView& view, const py::array& codes, const py::object& metric, size_t k,
               unsigned threads) {
    const Packed packed(codes, view);
    const Queries& q = packed.queries();
    const Metric& m = checked(metric, q.n_words);
    Array<int32_t> distances = packed.answer<int32_t>(k);
    Array<int64_t> ids = packed.answer<int64_t>(k);
    int32_t* d = distances.mutable_data();
    int64_t* i = ids.mutable_data();
    without_gil_if(q.n * total_blocks(view.target) * words_measured(m, q.n_words) >= kShortSearch, [&] {
        ::pyhash::topk(kernel, view.target, q, m, k, threads, d, i);
    });
    return py::make_tuple(std::move(distances), std::move(ids));
}

py::tuple within(const Kernel& kernel, const TargetView& view, const py::array& codes, const py::object& metric, uint32_t radius,
                 unsigned threads, std::optional<size_t> room) {
    const Packed packed(codes, view);
    const Queries& q = packed.queries();
    const Metric& m = checked(metric, q.n_words);
    std::vector<std::vector<Candidate>> found;
    without_gil([&] {
        found = ::pyhash::within(kernel, view.target, q, m, radius, threads, room.value_or(kAnyRoom));
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
        for (size_t j = 0; j < q.n; ++j) {
            std::vector<Candidate>& list = found[j];
            if (j % 1024 == 0 || list.size() >= 1024) checkpoint();
            for (const Candidate& c : list) {
                *d++ = static_cast<int32_t>(c.distance);
                *i++ = c.id;
            }
            std::vector<Candidate>().swap(list);
        }
    });
    return py::make_tuple(std::move(offsets), std::move(distances), std::move(ids));
}

py::tuple pairs(const Kernel& kernel, const TargetView& view, const TargetView* other, const py::object& metric, uint32_t radius,
                unsigned threads, std::optional<size_t> most, std::optional<size_t> room) {
    const size_t n_words = std::max(view.n_words, other != nullptr ? other->n_words : 0);
    require(view.n_words == 0 || other == nullptr || other->n_words == 0 || view.n_words == other->n_words,
            "codes of both must be of one width");
    const Target& left = view.target;
    const Target right = other != nullptr ? other->target : Target();
    const Metric& m = checked(metric, n_words);
    std::unique_ptr<Ranks> left_ranks;
    std::unique_ptr<Ranks> right_ranks;
    std::unique_ptr<FoundPairs> found;
    without_gil([&] {
        left_ranks = std::make_unique<Ranks>(left);
        right_ranks = std::make_unique<Ranks>(right);
        if (!left_ranks->possible() || !right_ranks->possible())
            throw std::invalid_argument("pairs are found among at most 2**32 codes");
        const size_t bytes = room.value_or(kAnyRoom);
        found = std::make_unique<FoundPairs>(left_ranks->size(), most.value_or(std::numeric_limits<size_t>::max()), bytes);
        if (other)
            join(kernel, left, *left_ranks, right, *right_ranks, m, radius, threads, *found, bytes);
        else
            join(kernel, left, *left_ranks, m, radius, threads, *found, bytes);
    });
    const py::ssize_t n = static_cast<py::ssize_t>(found->size());
    Array<int64_t> i(n);
    Array<int64_t> j(n);
    Array<int32_t> distances(n);
    int64_t* pi = i.mutable_data();
    int64_t* pj = j.mutable_data();
    int32_t* pd = distances.mutable_data();
    without_gil([&] { found->write(*left_ranks, other ? *right_ranks : *left_ranks, threads, pi, pj, pd); });
    return py::make_tuple(std::move(i), std::move(j), std::move(distances));
}

py::tuple groups(const Kernel& kernel, const TargetView& view, const py::object& metric, uint32_t radius, unsigned threads,
                 std::optional<size_t> room) {
    const Target& target = view.target;
    const Metric& m = checked(metric, view.n_words);
    Groups::Listed listed;
    std::vector<int64_t> ids;
    without_gil([&] {
        const Ranks ranks(target);
        if (!ranks.possible()) throw std::invalid_argument("groups are found among at most 2**32 codes");
        Groups found(ranks.size());
        join(kernel, target, ranks, m, radius, threads, found, room.value_or(kAnyRoom));
        listed = found.list();
        ids.reserve(listed.ranks.size());
        for (size_t i = 0; i < listed.ranks.size(); ++i) {
            if (i % (1 << 16) == 0) checkpoint();
            ids.push_back(ranks.id(listed.ranks[i]));
        }
    });
    return py::make_tuple(as_array(listed.offsets), as_array(ids));
}

py::tuple rerank(const Kernel& kernel, const TargetView& view, const py::array& codes, const Array<int64_t>& slots,
                 const py::object& metric, size_t k, unsigned threads) {
    const Packed packed(codes, view);
    const Queries& q = packed.queries();
    const Metric& m = checked(metric, q.n_words);
    require(slots.ndim() == 2 && static_cast<size_t>(slots.shape(0)) == q.n, "slots must have one row a query");
    Array<int32_t> distances({q.n, k});
    Array<int64_t> ids({q.n, k});
    const int64_t* from = slots.data();
    const size_t n_slots = static_cast<size_t>(slots.shape(1));
    int32_t* d = distances.mutable_data();
    int64_t* i = ids.mutable_data();
    without_gil([&] {
        ::pyhash::rerank(kernel, view.target, q, from, n_slots, m, k, threads, d, i);
    });
    return py::make_tuple(std::move(distances), std::move(ids));
}

Array<int32_t> hamming(const Kernel& kernel, const Array<uint64_t>& a, const Array<uint64_t>& b, unsigned threads) {
    const Queries left = as_queries(a);
    const Queries right = as_queries(b);
    require(left.n_words == right.n_words, "a and b must be of one width");
    Array<int32_t> distances({left.n, right.n});
    int32_t* d = distances.mutable_data();
    without_gil([&] {
        ::pyhash::hamming(kernel, left, right, threads, d);
    });
    return distances;
}

}  // namespace

void bind_searches(py::module_& module, py::class_<Kernel>& kernel) {
    py::class_<TargetView>(module, "Target");
    kernel
        .def("target", &make_target, py::arg("segments"), py::arg("allowed").none(true) = py::none())
        .def("metric", &make_metric, py::arg("words"), py::arg("masks"), py::arg("weights"))
        .def("topk", &topk, py::arg("target"), py::arg("queries"), py::arg("metric").none(true), py::arg("k"),
             py::arg("threads"))
        .def("within", &within, py::arg("target"), py::arg("queries"), py::arg("metric").none(true), py::arg("radius"),
             py::arg("threads"), py::arg("room").none(true) = py::none())
        .def("pairs", &pairs, py::arg("target"), py::arg("other").none(true), py::arg("metric").none(true),
             py::arg("radius"), py::arg("threads"), py::arg("most").none(true) = py::none(), py::arg("room").none(true) = py::none())
        .def("groups", &groups, py::arg("target"), py::arg("metric").none(true), py::arg("radius"), py::arg("threads"),
             py::arg("room").none(true) = py::none())
        .def("rerank", &rerank, py::arg("target"), py::arg("queries"), py::arg("slots"), py::arg("metric").none(true),
             py::arg("k"), py::arg("threads"))
        .def("hamming", &hamming, py::arg("a"), py::arg("b"), py::arg("threads"));
}

}  // namespace bindings
}  // namespace pyhash
