// What arguments have to be.
#pragma once

#include <stdexcept>

namespace lepton {

// Throws std::invalid_argument with `message` unless `valid`.
inline void check(bool valid, const char* message) {
  if (!valid) throw std::invalid_argument(message);
}

}  // namespace lepton
