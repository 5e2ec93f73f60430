#include "attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "half.h"
#include "thread_pool.h"

namespace lepton {

namespace {

// Queries of a task: enough for keys and values to come from the second-level cache, few enough for
// many tasks.
constexpr size_t kTaskQueries = 24;

// Codes `values` as int8, code d to code_at(d), and returns their scale. A NaN makes the scale one.
template <class CodeAt>
float store_int8(const float* values, size_t count, const CodeAt& code_at) {
  uint32_t magnitude = 0;
  for (size_t d = 0; d < count; ++d)
    magnitude = std::max(magnitude, float_to_bits(values[d]) & 0x7fffffffu);
  const float largest = bits_to_float(magnitude);
  // Below 2^-110 the inverse could be infinite: such a head is zero.
  const float inverse = largest < 0x1p-110f ? 0.0f : 127.0f / largest;
  for (size_t d = 0; d < count; ++d) {
    const float x = std::nearbyint(values[d] * inverse);
    *code_at(d) = static_cast<int8_t>(x > -127.0f ? std::min(x, 127.0f) : -127.0f);
  }
  return largest / 127.0f;
}

}  // namespace

KvCache::KvCache(CacheType type, size_t num_kv_heads, size_t head_dim) {
  view_.type = type;
  view_.num_kv_heads = num_kv_heads;
  view_.head_dim = head_dim;
  view_.padded_dim = round_up(head_dim, 16);
  view_.unit_bytes = view_.scales_offset() +
                     (type == CacheType::kInt8 ? 2 * kCacheBlockTokens * sizeof(float) : 0);
}

void KvCache::place(uint8_t* data, size_t block_stride) {
  view_.data = data;
  view_.block_stride = block_stride;
}

void KvCache::store(size_t block, size_t slot, size_t head, const float* key,
                    const float* value) const {
  uint8_t* unit = view_.unit(block, head);
  uint8_t* values = unit + view_.values_offset();
  const size_t dim = view_.head_dim;
  if (view_.type == CacheType::kInt8) {
    auto* scales = reinterpret_cast<float*>(unit + view_.scales_offset());
    auto* key_codes = reinterpret_cast<int8_t*>(unit) + slot;
    auto* value_codes = reinterpret_cast<int8_t*>(values) + slot * 16;
    scales[slot] = store_int8(key, dim, [=](size_t d) { return key_codes + d * 16; });
    scales[kCacheBlockTokens + slot] =
        store_int8(value, dim, [=](size_t d) { return value_codes + d / 16 * 256 + d % 16; });
    return;
  }
  // A token's slots lie apart: sixteen are converted at a time, then spread.
  auto* key_slots = reinterpret_cast<uint16_t*>(unit) + slot * 2;
  auto* value_slots = reinterpret_cast<uint16_t*>(values) + slot / 2 * 32 + slot % 2;
  for (size_t first = 0; first < dim; first += 16, key_slots += 256, value_slots += 256) {
    const size_t count = std::min<size_t>(16, dim - first);
    uint16_t key_halves[16], value_halves[16];
    for (size_t i = 0; i < count; ++i) {
      key_halves[i] = float_to_bfloat16(key[first + i]);
      value_halves[i] = float_to_bfloat16(value[first + i]);
    }
    for (size_t i = 0; i < count; i += 2) std::memcpy(key_slots + i * 16, key_halves + i, 4);
    for (size_t i = 0; i < count; ++i) value_slots[i * 2] = value_halves[i];
  }
}

void Attention::States::reserve(size_t queries, size_t padded_dim) {
  if (softmax.size() < queries) softmax.resize(queries);
  sums.reserve(1, queries * padded_dim);
}

void Attention::plan(const Call& call) {
  const auto [shape, cache, batch, queries, mixed] = call;
  const size_t most_rows = std::max<size_t>(1, kTaskQueries / call.group());
  tasks_.clear();
  items_.clear();
  size_t cost = 0;
  for (size_t s = 0; s < batch.sequences; ++s) {
    const auto end = static_cast<size_t>(batch.row_starts[s + 1]);
    for (auto row = static_cast<size_t>(batch.row_starts[s]); row < end; row += most_rows) {
      Task task{};
      task.sequence = s;
      task.row = row;
      task.rows = std::min(most_rows, end - row);
      const auto position = static_cast<size_t>(batch.positions[row]);
      const size_t first = position + 1 > shape.window ? position + 1 - shape.window : 0;
      task.segment_begin = first / kSegmentTokens;
      task.segment_end = (position + task.rows - 1) / kSegmentTokens + 1;
      cost += task.cost() * cache.num_kv_heads;
      for (task.kv_head = 0; task.kv_head < cache.num_kv_heads; ++task.kv_head)
        tasks_.push_back(task);
    }
  }
  // A task of more than a fair share is split, so that all threads have work to the end.
  const auto threads = static_cast<size_t>(pool_.threads());
  size_t split_queries = 0;
  parts_left_.resize(tasks_.size());
  for (size_t t = 0; t < tasks_.size(); ++t) {
    Task& task = tasks_[t];
    task.parts = threads > 1 && task.cost() * 4 * threads > cost ? task.segments() : 1;
    task.split_query = split_queries;
    if (task.parts > 1) split_queries += task.parts * task.rows * call.group();
    for (size_t part = 0; part < task.parts; ++part) items_.push_back({t, part});
    parts_left_[t] = static_cast<uint32_t>(task.parts);
  }
  split_states_.reserve(split_queries, cache.padded_dim);
}

void Attention::run(const Call& call) {
  plan(call);
  const CacheView& cache = call.cache;
  const size_t queries = std::max(kTaskQueries, call.group());
  workers_.resize(static_cast<size_t>(pool_.threads()));
  for (Worker& worker : workers_) {
    worker.states.reserve(queries, cache.padded_dim);
    worker.scratch.reserve(
        1, queries * cache.head_dim + kernels_.query_tile * (kSegmentTokens + cache.padded_dim));
  }
  pool_.parallel_for(items_.size(), 1, [&](size_t begin, size_t end, int worker) {
    for (size_t i = begin; i < end; ++i)
      work(call, items_[i], workers_[static_cast<size_t>(worker)]);
  });
}

void Attention::work(const Call& call, const Item& part, Worker& worker) {
  const Task& task = tasks_[part.task];
  const CacheView& cache = call.cache;
  const size_t dim = cache.head_dim, padded = cache.padded_dim;
  const size_t queries = task.rows * call.group();
  const size_t column = task.kv_head * call.group() * dim;
  AttendState* states = worker.states.softmax.data();
  float* sums = worker.states.sums.row(0);
  AttendItem item{};
  item.cache = &cache;
  item.block_table = call.batch.block_tables + task.sequence * call.batch.table_width;
  item.kv_head = task.kv_head;
  item.group = call.group();
  item.rows = task.rows;
  item.position = static_cast<size_t>(call.batch.positions[task.row]);
  item.window = call.shape.window;
  item.scale = call.shape.scale;
  item.rounded = call.shape.rounded && cache.type == CacheType::kBFloat16;
  item.queries = call.queries.row(task.row) + column;
  item.query_stride = call.queries.stride();
  item.scratch = worker.scratch.row(0);
  item.segment_begin = task.segment_begin + part.part;
  item.segment_end = task.parts > 1 ? item.segment_begin + 1 : task.segment_end;
  item.states = states;
  item.sums = sums;
  if (task.parts > 1) {
    const size_t first = task.split_query + part.part * queries;
    item.states = split_states_.softmax.data() + first;
    item.sums = split_states_.sums.row(0) + first * padded;
  }
  std::fill(item.states, item.states + queries, AttendState{});
  std::fill(item.sums, item.sums + queries * padded, 0.0f);
  kernels_.attend(item);
  if (task.parts > 1) {
    // Whoever finishes a task's last part merges all of them, in order.
    if (std::atomic_ref(parts_left_[part.task]).fetch_sub(1, std::memory_order_acq_rel) != 1)
      return;
    std::fill(states, states + queries, AttendState{});
    std::fill(sums, sums + queries * padded, 0.0f);
    for (size_t i = 0; i < task.parts * queries; ++i) {
      const size_t from = task.split_query + i, to = i % queries;
      kernels_.merge_attention(padded, split_states_.softmax[from],
                               split_states_.sums.row(0) + from * padded, states[to],
                               sums + to * padded);
    }
  }
  for (size_t q = 0; q < queries; ++q) {
    float* out = call.mixed.row(task.row + q / item.group) + column + q % item.group * dim;
    const float inverse = 1.0f / states[q].total;
    for (size_t d = 0; d < dim; ++d) out[d] = sums[q * padded + d] * inverse;
  }
}

}  // namespace lepton
