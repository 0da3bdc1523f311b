// How much memory there is.
#pragma once

#include <cstddef>

namespace pyhash {

// Bytes of memory that can be had without driving others out; a very large number where the system does not say.
size_t available_memory();

}  // namespace pyhash
