#include "matrix.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <vector>

#include "kernels.h"
#include "thread_pool.h"

namespace lepton {

namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kArenaBytes = size_t{64} << 20;
constexpr size_t kCacheLine = 64;
constexpr size_t kLargestMatrix = size_t{1} << 48;

}  // namespace

AlignedBuffer::AlignedBuffer(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  const size_t slack = bytes >= kHugePage ? kHugePage : 0;
  if (bytes > SIZE_MAX - slack) throw std::bad_alloc();
  const size_t length = bytes + slack;
  void* base = mmap(nullptr, length, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) throw std::bad_alloc();
  auto* start = static_cast<uint8_t*>(base);
  if (slack != 0) {
    start += (kHugePage - reinterpret_cast<uintptr_t>(base) % kHugePage) % kHugePage;
    madvise(start, bytes, MADV_HUGEPAGE);
  }
  data_ = {start, [base, length](uint8_t*) { munmap(base, length); }};
}

AlignedBuffer AlignedBuffer::on_shared_pages(size_t bytes) {
  if (bytes >= kArenaBytes / 2) return AlignedBuffer(bytes);
  static std::mutex mutex;
  static std::weak_ptr<uint8_t> newest;
  static size_t used = 0;
  const std::lock_guard lock(mutex);
  std::shared_ptr<uint8_t> arena = newest.lock();
  if (!arena || bytes > kArenaBytes - used) {
    arena = AlignedBuffer(kArenaBytes).data_;
    newest = arena;
    used = 0;
  }
  AlignedBuffer buffer;
  buffer.size_ = bytes;
  buffer.data_ = {arena, arena.get() + used};
  used += (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
  return buffer;
}

Matrix::Matrix(TensorType type, size_t rows, size_t columns, bool split)
    : type_(type),
      rows_(rows),
      columns_(columns),
      split_(split),
      panel_bytes_(split ? SplitLayout::panel_bytes(columns) : lepton::panel_bytes(type, columns)) {
  if (split && (type != TensorType::kQ8_0 || columns % kBlockColumns != 0))
    throw std::invalid_argument("only whole blocks of Q8_0 can be split in two planes");
  if (columns != 0 && rows > kLargestMatrix / columns)
    throw std::invalid_argument("the matrix is too large");
  data_ = AlignedBuffer::on_shared_pages(panels() * panel_bytes_);
  if (split) low_ = AlignedBuffer::on_shared_pages(panels() * low_panel_bytes(columns));
}

void Matrix::pack_rows(size_t first, TensorType source_type, const uint8_t* source, size_t bytes,
                       ThreadPool& pool, const KernelTable& kernels) {
  if (source_type != type_ && (is_quantized(source_type) || !is_quantizer_target(type_)))
    throw std::invalid_argument("these weights cannot become the type of the matrix");
  const size_t stride = row_bytes(source_type, columns_);
  const size_t count = stride == 0 ? 0 : bytes / stride;
  if (first > rows_ || count > rows_ - first || bytes != count * stride)
    throw std::invalid_argument("the buffer does not have the size of the matrix");
  if (first % kPanelRows != 0 || (count % kPanelRows != 0 && first + count != rows_))
    throw std::invalid_argument("rows are packed in whole panels of 16");
  const size_t first_panel = first / kPanelRows;
  const auto pack = [&](size_t row, uint8_t* panel) {
    const int here = static_cast<int>(std::min<size_t>(kPanelRows, count - row));
    const uint8_t* from = source + row * stride;
    if (source_type == type_)
      pack_panel(type_, from, stride, here, columns_, panel);
    else
      quantize_panel(type_, source_type, kernels.quantize, from, stride, here, columns_, panel);
  };
  const size_t num_panels = (count + kPanelRows - 1) / kPanelRows;
  if (!split_) {
    pool.parallel_for(num_panels, 1, [&](size_t begin, size_t end, int) {
      for (size_t p = begin; p < end; ++p)
        pack(p * kPanelRows, data_.data() + (first_panel + p) * panel_bytes_);
    });
    return;
  }
  // One panel of each worker before it is split.
  const size_t whole_bytes = lepton::panel_bytes(type_, columns_);
  std::vector<uint8_t> wholes(static_cast<size_t>(pool.threads()) * whole_bytes);
  std::vector<uint8_t> even(num_panels);
  pool.parallel_for(num_panels, 1, [&](size_t begin, size_t end, int worker) {
    uint8_t* whole = wholes.data() + static_cast<size_t>(worker) * whole_bytes;
    for (size_t p = begin; p < end; ++p) {
      std::memset(whole, 0, whole_bytes);
      pack(p * kPanelRows, whole);
      uint8_t* high = data_.data() + (first_panel + p) * panel_bytes_;
      uint8_t* low = low_.data() + (first_panel + p) * low_panel_bytes(columns_);
      split_panel(whole, columns_, high, low);
      const size_t outputs = std::min<size_t>(kPanelRows, count - p * kPanelRows);
      even[p] = has_even_nibbles(high, low, outputs, columns_);
    }
  });
  std::erase_if(uneven_panels_,
                [&](size_t p) { return p >= first_panel && p < first_panel + num_panels; });
  for (size_t p = 0; p < num_panels; ++p)
    if (even[p] == 0) uneven_panels_.push_back(first_panel + p);
}

void Matrix::unpack_row(size_t row, float* out) const {
  const size_t index = row / kPanelRows;
  const int output = static_cast<int>(row % kPanelRows);
  if (split_)
    unpack_split_row(panel(index), low_panel(index), output, columns_, out);
  else
    lepton::unpack_row(type_, panel(index), output, columns_, out);
}

}  // namespace lepton
