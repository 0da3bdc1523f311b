// Which kernel runs: the best that this CPU can run, unless another is asked for.
#pragma once

#include <string>
#include <vector>

#include "kernel.h"

namespace pyhash {

std::vector<const Kernel*> compiled_kernels();                       // best first
std::vector<const Kernel*> runnable_kernels(uint32_t cpu_features);  // best first; never empty
const Kernel& active_kernel();
bool set_active_kernel(const std::string& name);  // false when no runnable kernel has this name

}  // namespace pyhash
