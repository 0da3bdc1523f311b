// Which kernels there are. Who searches takes one of them and hands it to every call.
#pragma once

#include <vector>

#include "hamming/kernels/kernel.h"

namespace pyhash {

std::vector<const Kernel*> compiled_kernels();                       // best first
std::vector<const Kernel*> runnable_kernels(uint32_t cpu_features);  // best first; never empty

}  // namespace pyhash
