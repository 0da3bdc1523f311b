// What calls may take of the memory, and what they give back.
#pragma once

#include <cstddef>
#include <limits>

namespace pyhash {

// Bytes that a call may take where nobody sets a limit: how much there is the caller knows (pyhash/support/memory.py).
constexpr size_t kAnyRoom = std::numeric_limits<size_t>::max();

// Gives memory that was freed back to the system, where the allocator keeps it otherwise. It takes milliseconds.
void give_back_memory();

}  // namespace pyhash
