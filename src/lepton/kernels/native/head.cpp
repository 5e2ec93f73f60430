#include "head.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

namespace lepton {

namespace {

// Standard deviations between an approximate logit and its bounds.
constexpr double kDeviations = 7.0;

// Variance that rounding the inputs of a block to steps of 1 adds: each is off by up to half a
// step, evenly, and meets a code of up to 128.
constexpr double kRoundingVariance = kBlockColumns * 128.0 * 128.0 / 12.0;

// With more than one in so many of all rows' panels to compute in one pass, a scan saves nothing;
// of one row alone it may be twice as many, as memory binds then. With more than one logit wanted
// or more than one panel uneven in so many panels it mostly comes to that.
constexpr size_t kLargestShare = 8;
constexpr size_t kPanelsPerBest = 256;
constexpr size_t kPanelsPerUneven = 32;

// Panels that one thread scans at a time, at least.
constexpr size_t kGrain = 16;

static_assert(kScanRows <= 32, "rows are bits of a number");

constexpr float kLowest = std::numeric_limits<float>::lowest();

// The n-th largest; the least where there are fewer.
float find_largest(const float* values, size_t count, size_t n) {
  float best[HeadScan::kMostBest];
  const float* end =
      std::partial_sort_copy(values, values + count, best, best + n, std::greater<float>());
  return end[-1];
}

}  // namespace

bool HeadScan::pays(const Matrix& matrix, size_t rows, const int32_t* num_best) {
  const size_t most = std::min(kMostBest, 1 + matrix.panels() / kPanelsPerBest);
  return matrix.split() && num_best != nullptr && rows <= kScanRows &&
         matrix.uneven_panels().size() <= matrix.panels() / kPanelsPerUneven &&
         std::all_of(num_best, num_best + rows,
                     [&](int32_t n) { return n >= 1 && static_cast<size_t>(n) <= most; });
}

bool HeadScan::run(const HeadTask& task) {
  const size_t rows = task.quantized.rows, panels = task.matrix.panels();
  if (!scan(task)) return false;
  computed_.assign(panels, 0);
  thresholds_.resize(rows);
  for (size_t r = 0; r < rows; ++r)
    thresholds_[r] =
        find_largest(lower_.data() + r * panels, panels, static_cast<size_t>(task.num_best[r]));
  if (!choose_reaching(lower_, rows, panels)) return false;
  compute_chosen(task);
  // What the likeliest panels hold is a threshold without a margin.
  for (size_t r = 0; r < rows; ++r) thresholds_[r] = find_computed(task, r);
  if (!choose_reaching(upper_, rows, panels)) return false;
  compute_chosen(task);
  return true;
}

// Bounds all logits; of uneven panels nothing is known. False when one is not finite.
bool HeadScan::scan(const HeadTask& task) {
  const Matrix& matrix = task.matrix;
  const size_t rows = task.quantized.rows, panels = matrix.panels(), outputs = matrix.rows();
  measure_inputs(task);
  lower_.resize(rows * panels);
  upper_.resize(rows * panels);
  std::atomic<bool> finite = true;
  pool_.parallel_for(panels, kGrain, [&](size_t begin, size_t end, int) {
    HighScan scan{};
    scan.panels = matrix.panel(begin);
    scan.num_panels = end - begin;
    scan.panel_bytes = matrix.panel_bytes();
    scan.num_outputs = std::min(end * kPanelRows, outputs) - begin * kPanelRows;
    scan.inputs = &coarse_.view();
    scan.powers = powers_.data();
    scan.margins = margins_.data();
    scan.bias = task.bias.empty() ? nullptr : task.bias.data() + begin * kPanelRows;
    scan.lower = lower_.data() + begin;
    scan.upper = upper_.data() + begin;
    scan.stride = panels;
    if (!kernels_.scan_high(scan)) finite = false;
    for (size_t r = 0; r < rows; ++r)
      std::fill_n(task.logits + r * outputs + begin * kPanelRows, scan.num_outputs, kLowest);
  });
  for (size_t r = 0; r < rows; ++r) {
    for (const size_t p : matrix.uneven_panels()) {
      lower_[r * panels + p] = kLowest;
      upper_[r * panels + p] = std::numeric_limits<float>::infinity();
    }
  }
  return finite;
}

// Powers are relative to the largest of their row, so that none that matters underflows.
void HeadScan::measure_inputs(const HeadTask& task) {
  const size_t rows = task.quantized.rows, blocks = task.quantized.columns / kBlockColumns;
  coarse_.reserve(rows, task.quantized.columns, Planes::kOne, false);
  powers_.resize(blocks * rows);
  margins_.resize(rows);
  std::vector<double> variances(blocks);
  for (size_t r = 0; r < rows; ++r) {
    quantize(kernels_, task.input.row(r), r, coarse_.view());
    for (size_t b = 0; b < blocks; ++b) {
      const float* x = task.input.row(r) + b * kBlockColumns;
      const double step = coarse_.view().scales[b * rows + r];
      variances[b] = kRoundingVariance * step * step;
      for (int i = 0; i < kBlockColumns; ++i)
        variances[b] += kNibbleVariance * double{x[i]} * double{x[i]};
    }
    const double most = *std::max_element(variances.begin(), variances.end());
    for (size_t b = 0; b < blocks; ++b)
      powers_[b * rows + r] = most > 0.0 ? static_cast<float>(variances[b] / most) : 0.0f;
    margins_[r] = static_cast<float>(kDeviations * std::sqrt(most));
  }
}

// Chooses, for each row apart, the panels whose bounds reach its threshold and that it has not yet.
// False when these are too many.
bool HeadScan::choose_reaching(const std::vector<float>& bounds, size_t rows, size_t panels) {
  patches_.clear();
  size_t left = std::max<size_t>(rows, 2) * panels / kLargestShare;
  for (size_t p = 0; p < panels; ++p) {
    uint32_t wanted = 0;
    for (size_t r = 0; r < rows; ++r)
      wanted |= uint32_t{bounds[r * panels + p] >= thresholds_[r]} << r;
    wanted &= ~computed_[p];
    computed_[p] |= wanted;
    while (wanted != 0) {  // Rows next to each other go together.
      const auto begin = static_cast<size_t>(std::countr_zero(wanted));
      const auto count = static_cast<size_t>(std::countr_one(wanted >> begin));
      if (count > left) return false;
      left -= count;
      patches_.push_back({p, 1, begin, begin + count});
      wanted &= wanted + (uint32_t{1} << begin);  // The carry clears them.
    }
  }
  return true;
}

void HeadScan::compute_chosen(const HeadTask& task) {
  const size_t outputs = task.matrix.rows();
  pool_.parallel_for(patches_.size(), 1, [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; ++i) {
      const Patch& patch = patches_[i];
      const size_t first = patch.panel * kPanelRows;
      const size_t count = std::min<size_t>(kPanelRows, outputs - first);
      float panel[kScanRows][kPanelRows];
      multiply_patch(kernels_, task.input, task.quantized, task.matrix, task.bias, patch, panel[0],
                     kPanelRows, false);
      for (size_t r = patch.row_begin; r < patch.row_end; ++r)
        std::copy_n(panel[r - patch.row_begin], count, task.logits + r * outputs + first);
    }
  });
}

// As many as are wanted of a row's logits in `patches_` reach this.
float HeadScan::find_computed(const HeadTask& task, size_t row) const {
  const size_t outputs = task.matrix.rows();
  const auto wanted = static_cast<size_t>(task.num_best[row]);
  float best[kMostBest + kPanelRows];
  size_t held = 0;
  for (const Patch& patch : patches_) {
    if (row < patch.row_begin || row >= patch.row_end) continue;
    const size_t first = patch.panel * kPanelRows;
    const size_t count = std::min<size_t>(kPanelRows, outputs - first);
    std::copy_n(task.logits + row * outputs + first, count, best + held);
    const size_t keep = std::min(wanted, held + count);
    std::partial_sort(best, best + keep, best + held + count, std::greater<float>());
    held = keep;
  }
  return best[held - 1];
}

}  // namespace lepton
