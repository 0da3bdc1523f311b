// What only benchmarks need: the limits that a search can be compared with.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hamming/kernels/kernel.h"

namespace pyhash {

// Reads n words once and returns their exclusive or: as fast as memory can be read by one core.
uint64_t read_words(const uint64_t* words, size_t n);

// Passes one query over the same few blocks of codes of n_words words, which stay in the first-level cache, until
// `n_codes` codes are measured and none is near enough: the bound of the popcount scan. Returns the codes measured.
size_t scan_cached(const Kernel& kernel, size_t n_words, size_t n_codes);

}  // namespace pyhash
