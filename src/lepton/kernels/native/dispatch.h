// The choice of an instruction set at run time.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"

namespace lepton {

// Names of the instruction sets this CPU and operating system can run, the best first.
std::vector<std::string> supported_isas();

// The table for `name`, or for the environment's LEPTON_ISA, or for the best set when both are
// empty. Throws std::invalid_argument for a name that is unknown or that this machine cannot run.
const KernelTable& kernel_table(const std::string& name);

}  // namespace lepton
