// How much memory there is.
#pragma once

#include <cstddef>

namespace pyhash {

// Bytes of memory that can be had without driving others out; a very large number where the system does not say.
size_t available_memory();

// Gives memory that was freed back to the system, where the allocator keeps it otherwise. It takes milliseconds.
void give_back_memory();

}  // namespace pyhash
