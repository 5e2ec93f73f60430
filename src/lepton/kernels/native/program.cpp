#include "program.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "attention.h"
#include "check.h"
#include "dispatch.h"
#include "head.h"

namespace lepton {

namespace {

// No later product averages what is lost in the head's inputs.
constexpr Planes kHeadPlanes = Planes::kTwo;
// Blocks of 32 inner columns of an MLP that a thread computes at a time: the products of kRowBlock
// rows stay in the second-level cache.
constexpr size_t kMlpBlocks = 4;
// Rows that a thread normalizes or quantizes at a time: their scales of one block fill a cache
// line.
constexpr size_t kRowGrain = 16;

void check_norm(const std::optional<NormWeights>& norm, size_t size, const char* message) {
  check(!norm || norm->weight.size() == size, message);
}

void check_linear(LinearWeights& linear, size_t outputs, size_t inputs, const char* message) {
  check(linear.matrix && linear.matrix->rows() == outputs && linear.matrix->columns() == inputs &&
            (linear.bias.empty() || linear.bias.size() == outputs),
        message);
  if (!linear.bias.empty()) linear.bias.resize(round_up(outputs, kPanelRows), 0.0f);
}

// Makes room for the input that products have in common; false when none of them is of quantized
// weights.
bool reserve(QuantizedBuffer& buffer, size_t rows,
             std::initializer_list<const LinearWeights*> weights, Planes planes) {
  size_t columns = 0;
  bool words = false;
  for (const LinearWeights* w : weights) {
    if (!w->matrix->quantized()) continue;
    columns = w->matrix->columns();
    words |= takes_words(*w->matrix, planes);
  }
  if (columns > 0) buffer.reserve(rows, columns, planes, words);
  return columns > 0;
}

void rotate(float* head, const RopeTable& rope, const float* cosines, const float* sines) {
  const size_t half = rope.inverse_frequencies.size();
  for (size_t i = 0; i < half; ++i) {
    float& a = rope.interleaved ? head[2 * i] : head[i];
    float& b = rope.interleaved ? head[2 * i + 1] : head[i + half];
    const float x = a, y = b;
    a = x * cosines[i] - y * sines[i];
    b = x * sines[i] + y * cosines[i];
  }
}

}  // namespace

struct Program::Layer {
  std::optional<AttentionStage> attention;
  std::optional<GatedMlpStage> mlp;
  KvCache cache;
};

// Products of an MLP that one thread has not yet activated.
struct Program::Worker {
  Rows gate, up;
};

struct Program::Buffers {
  Buffers(ThreadPool& pool, const KernelTable& kernels)
      : attention(pool, kernels),
        workers(static_cast<size_t>(pool.threads())),
        head_scan(pool, kernels) {}

  Attention attention;
  Rows residual, normed, query, key, value, mixed, inner, logits;
  QuantizedBuffer quantized, quantized_inner;
  std::vector<Worker> workers;
  std::vector<Rows> cosines, sines;     // per rope [rows, head_dim / 2]
  std::vector<size_t> sequence_of_row;  // of the whole batch
  std::vector<uint8_t> block_used;
  NeededRows needed;
  HeadScan head_scan;
};

Program::Program(std::shared_ptr<ThreadPool> pool, size_t hidden, size_t num_blocks, Planes planes,
                 CacheType cache_type, const std::string& isa)
    : pool_(std::move(pool)),
      kernels_(kernel_table(isa)),
      hidden_(hidden),
      num_blocks_(num_blocks),
      planes_(planes),
      cache_type_(cache_type),
      buffers_(std::make_unique<Buffers>(*pool_, kernels_)) {
  check(hidden > 0, "hidden must be positive");
  check(num_blocks > 0 && num_blocks < (size_t{1} << 31), "num_blocks must be positive");
  check(planes != Planes::kOne, "planes must be adaptive or two");
}

Program::~Program() = default;

void Program::set_embedding(SharedMatrix matrix, float scale) {
  check(matrix && matrix->columns() == hidden_, "embedding must be [vocabulary, hidden]");
  embedding_ = std::move(matrix);
  embedding_scale_ = scale;
}

size_t Program::add_rope(RopeTable rope) {
  check(!rope.inverse_frequencies.empty(), "rope needs at least one frequency");
  ropes_.push_back(std::move(rope));
  return ropes_.size() - 1;
}

void Program::add_attention(AttentionStage s) {
  check(!head_.matrix, "no stage comes after the head");
  check(s.head_dim > 0 && s.head_dim % 2 == 0, "head_dim must be positive and even");
  check(s.num_kv_heads > 0 && s.num_heads > 0 && s.num_heads % s.num_kv_heads == 0,
        "num_heads must be a multiple of num_kv_heads");
  check(s.rope < ropes_.size() && ropes_[s.rope].inverse_frequencies.size() * 2 == s.head_dim,
        "rope must have head_dim / 2 frequencies");
  check(s.norm.weight.size() == hidden_, "attention norm must have hidden weights");
  check_norm(s.query_norm, s.head_dim, "query norm must have head_dim weights");
  check_norm(s.key_norm, s.head_dim, "key norm must have head_dim weights");
  check_norm(s.post_norm, hidden_, "attention post norm must have hidden weights");
  check_linear(s.query, s.num_heads * s.head_dim, hidden_, "query weights have the wrong shape");
  check_linear(s.key, s.num_kv_heads * s.head_dim, hidden_, "key weights have the wrong shape");
  check_linear(s.value, s.num_kv_heads * s.head_dim, hidden_, "value weights have the wrong shape");
  check_linear(s.output, hidden_, s.num_heads * s.head_dim,
               "attention output weights have the wrong shape");
  auto layer = std::make_unique<Layer>();
  layer->cache = KvCache(cache_type_, s.num_kv_heads, s.head_dim);
  layer->attention = std::move(s);
  last_attention_ = layer.get();
  layers_.push_back(std::move(layer));
}

void Program::add_gated_mlp(GatedMlpStage s) {
  check(!head_.matrix, "no stage comes after the head");
  check(s.norm.weight.size() == hidden_, "mlp norm must have hidden weights");
  check_norm(s.post_norm, hidden_, "mlp post norm must have hidden weights");
  check(s.gate.matrix != nullptr, "gate weights are missing");
  const size_t inner = s.gate.matrix->rows();
  check_linear(s.gate, inner, hidden_, "gate weights have the wrong shape");
  check_linear(s.up, inner, hidden_, "up weights have the wrong shape");
  check_linear(s.down, hidden_, inner, "down weights have the wrong shape");
  auto layer = std::make_unique<Layer>();
  layer->mlp = std::move(s);
  layers_.push_back(std::move(layer));
}

void Program::set_head(NormWeights norm, LinearWeights output) {
  check(!head_.matrix, "the program has its head already");
  check(norm.weight.size() == hidden_, "head norm must have hidden weights");
  check(output.matrix != nullptr, "head weights are missing");
  check_linear(output, output.matrix->rows(), hidden_, "head weights have the wrong shape");
  place_caches();
  head_norm_ = std::move(norm);
  head_ = std::move(output);
}

// Layers lie next to each other in a block, so that the system has few new pages to give when new
// blocks are used; were a cache as long as a page of 2 MiB, all layers would come to its end at
// once, and clearing their next pages takes 5 ms each.
void Program::place_caches() {
  const size_t stride = bytes_per_block();
  cache_ = AlignedBuffer(num_blocks_ * stride);
  uint8_t* data = cache_.data();
  for (const auto& layer : layers_) {
    if (!layer->attention) continue;
    layer->cache.place(data, stride);
    data += layer->cache.bytes_per_block();
  }
}

size_t Program::vocab_size() const { return head_.matrix ? head_.matrix->rows() : 0; }

size_t Program::bytes_per_block() const {
  size_t bytes = 0;
  for (const auto& layer : layers_)
    if (layer->attention) bytes += layer->cache.bytes_per_block();
  return bytes;
}

void Program::forward(const BatchView& batch, float* logits) {
  if (busy_.test_and_set(std::memory_order_acquire))
    throw std::logic_error("another thread is running this program");
  const std::unique_ptr<std::atomic_flag, void (*)(std::atomic_flag*)> idle(
      &busy_, [](std::atomic_flag* f) { f->clear(std::memory_order_release); });
  check(embedding_ && head_.matrix, "the program has no embedding or no head");
  check_batch(batch, embedding_->rows(), num_blocks_, buffers_->block_used);
  if (batch.rows == 0) return;
  buffers_->needed.select(batch);
  embed(batch);
  const BatchView* rows = &batch;
  turn_ropes(*rows);
  for (const auto& layer : layers_) {
    if (!layer->attention) {
      run_gated_mlp(*layer, rows->rows);
    } else if (layer.get() != last_attention_ || buffers_->needed.all()) {
      run_attention(*layer, *rows);
    } else {
      run_last_attention(*layer, *rows);
      rows = &buffers_->needed.view();
      if (rows->rows == 0) return;
    }
  }
  run_head(*rows, logits);
}

void Program::embed(const BatchView& batch) {
  Buffers& buf = *buffers_;
  buf.residual.reserve(batch.rows, hidden_);
  buf.sequence_of_row.resize(batch.rows);
  for (size_t s = 0; s < batch.sequences; ++s)
    std::fill(buf.sequence_of_row.begin() + batch.row_starts[s],
              buf.sequence_of_row.begin() + batch.row_starts[s + 1], s);
  pool_->parallel_for(batch.rows, kRowGrain, [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; ++r) {
      float* x = buf.residual.row(r);
      embedding_->unpack_row(static_cast<size_t>(batch.token_ids[r]), x);
      for (size_t i = 0; i < hidden_; ++i) x[i] *= embedding_scale_;
    }
  });
}

void Program::turn_ropes(const BatchView& batch) {
  Buffers& buf = *buffers_;
  buf.cosines.resize(ropes_.size());
  buf.sines.resize(ropes_.size());
  for (size_t i = 0; i < ropes_.size(); ++i) {
    const RopeTable& rope = ropes_[i];
    const size_t half = rope.inverse_frequencies.size();
    buf.cosines[i].reserve(batch.rows, half);
    buf.sines[i].reserve(batch.rows, half);
    pool_->parallel_for(batch.rows, kRowGrain, [&](size_t begin, size_t end, int) {
      for (size_t r = begin; r < end; ++r) {
        for (size_t j = 0; j < half; ++j) {
          const float angle = static_cast<float>(batch.positions[r]) * rope.inverse_frequencies[j];
          buf.cosines[i].row(r)[j] = static_cast<float>(std::cos(double{angle})) * rope.magnitude;
          buf.sines[i].row(r)[j] = static_cast<float>(std::sin(double{angle})) * rope.magnitude;
        }
      }
    });
  }
}

void Program::normalize(const NormWeights& norm, const float* x, size_t rows, bool quantize) {
  Buffers& buf = *buffers_;
  buf.normed.reserve(rows, hidden_);
  const size_t stride = buf.residual.stride();
  pool_->parallel_for(rows, kRowGrain, [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; ++r) {
      float* y = buf.normed.row(r);
      kernels_.rms_norm(x + r * stride, norm.weight.data(), norm.epsilon, hidden_,
                        buf.normed.stride(), y);
      if (quantize) lepton::quantize(kernels_, y, r, buf.quantized.view());
    }
  });
}

void Program::multiply(const Rows& input, const QuantizedBuffer& quantized, size_t rows,
                       std::initializer_list<Term> terms, bool accumulate) {
  lepton::multiply(*pool_, kernels_, input, quantized.view(), rows, terms, accumulate);
}

void Program::run_attention(const Layer& layer, const BatchView& batch) {
  const AttentionStage& s = *layer.attention;
  Buffers& buf = *buffers_;
  const size_t rows = batch.rows;
  const bool quantize = reserve(buf.quantized, rows, {&s.query, &s.key, &s.value}, planes_);
  normalize(s.norm, buf.residual.row(0), rows, quantize);
  reserve_heads(s, rows);
  multiply(buf.normed, buf.quantized, rows,
           {{*s.query.matrix, s.query.bias, buf.query},
            {*s.key.matrix, s.key.bias, buf.key},
            {*s.value.matrix, s.value.bias, buf.value}},
           false);
  pool_->parallel_for(rows, kRowGrain, [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; ++r) {
      turn_queries(s, r);
      store_keys(layer, batch, r);
    }
  });
  attend(layer, batch);
}

// Keys and values of all rows, and then the rest for those alone that logits need.
void Program::run_last_attention(const Layer& layer, const BatchView& batch) {
  const AttentionStage& s = *layer.attention;
  Buffers& buf = *buffers_;
  const BatchView& needed = buf.needed.view();
  normalize(s.norm, buf.residual.row(0), batch.rows,
            reserve(buf.quantized, batch.rows, {&s.key, &s.value}, planes_));
  reserve_heads(s, batch.rows);
  multiply(buf.normed, buf.quantized, batch.rows,
           {{*s.key.matrix, s.key.bias, buf.key}, {*s.value.matrix, s.value.bias, buf.value}},
           false);
  pool_->parallel_for(batch.rows, kRowGrain, [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; ++r) store_keys(layer, batch, r);
  });
  if (needed.rows == 0) return;
  for (size_t r = 0; r < needed.rows; ++r)
    std::memmove(buf.residual.row(r), buf.residual.row(buf.needed.row(r)),
                 buf.residual.stride() * sizeof(float));
  turn_ropes(needed);
  normalize(s.norm, buf.residual.row(0), needed.rows,
            reserve(buf.quantized, needed.rows, {&s.query}, planes_));
  multiply(buf.normed, buf.quantized, needed.rows, {{*s.query.matrix, s.query.bias, buf.query}},
           false);
  pool_->parallel_for(needed.rows, kRowGrain, [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; ++r) turn_queries(s, r);
  });
  attend(layer, needed);
}

void Program::reserve_heads(const AttentionStage& s, size_t rows) {
  Buffers& buf = *buffers_;
  buf.query.reserve(rows, s.num_heads * s.head_dim);
  buf.key.reserve(rows, s.num_kv_heads * s.head_dim);
  buf.value.reserve(rows, s.num_kv_heads * s.head_dim);
}

// Norm, where there is one, and rotation of a head of a row.
void Program::turn(const AttentionStage& s, const std::optional<NormWeights>& norm, size_t row,
                   float* head) {
  const Buffers& buf = *buffers_;
  if (norm)
    kernels_.rms_norm(head, norm->weight.data(), norm->epsilon, s.head_dim, s.head_dim, head);
  rotate(head, ropes_[s.rope], buf.cosines[s.rope].row(row), buf.sines[s.rope].row(row));
}

void Program::turn_queries(const AttentionStage& s, size_t row) {
  for (size_t h = 0; h < s.num_heads; ++h)
    turn(s, s.query_norm, row, buffers_->query.row(row) + h * s.head_dim);
}

// The new keys, turned, and values of a row into their cache slots.
void Program::store_keys(const Layer& layer, const BatchView& batch, size_t row) {
  const AttentionStage& s = *layer.attention;
  const Buffers& buf = *buffers_;
  const auto position = static_cast<size_t>(batch.positions[row]);
  const size_t block = batch.block(buf.sequence_of_row[row], position);
  for (size_t h = 0; h < s.num_kv_heads; ++h) {
    float* key = buf.key.row(row) + h * s.head_dim;
    turn(s, s.key_norm, row, key);
    layer.cache.store(block, position % kCacheBlockTokens, h, key,
                      buf.value.row(row) + h * s.head_dim);
  }
}

// What the rows see, and the output's product.
void Program::attend(const Layer& layer, const BatchView& batch) {
  const AttentionStage& s = *layer.attention;
  Buffers& buf = *buffers_;
  const size_t width = s.num_heads * s.head_dim;
  buf.mixed.reserve(batch.rows, width);
  const AttentionShape shape{s.num_heads, s.scale, s.window != 0 ? s.window : SIZE_MAX,
                             planes_ == Planes::kAdaptive};
  buf.attention.run({shape, layer.cache.view(), batch, buf.query, buf.mixed});
  const bool quantize = reserve(buf.quantized, batch.rows, {&s.output}, planes_);
  pool_->parallel_for(batch.rows, kRowGrain, [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; ++r) {
      float* mixed = buf.mixed.row(r);
      std::fill(mixed + width, mixed + buf.mixed.stride(), 0.0f);
      if (quantize) lepton::quantize(kernels_, mixed, r, buf.quantized.view());
    }
  });
  if (s.post_norm) {
    buf.normed.reserve(batch.rows, hidden_);
    multiply(buf.mixed, buf.quantized, batch.rows, {{*s.output.matrix, s.output.bias, buf.normed}},
             false);
    add_post_norm(*s.post_norm, batch.rows);
  } else {
    multiply(buf.mixed, buf.quantized, batch.rows,
             {{*s.output.matrix, s.output.bias, buf.residual}}, true);
  }
}

void Program::run_gated_mlp(const Layer& layer, size_t rows) {
  const GatedMlpStage& s = *layer.mlp;
  Buffers& buf = *buffers_;
  const size_t inner = s.gate.matrix->rows();
  normalize(s.norm, buf.residual.row(0), rows,
            reserve(buf.quantized, rows, {&s.gate, &s.up}, planes_));
  const bool quantize = reserve(buf.quantized_inner, rows, {&s.down}, planes_);
  if (!quantize) buf.inner.reserve(rows, inner);
  const auto activate = s.gelu ? kernels_.gelu_tanh_gate : kernels_.silu_gate;
  const size_t panels = s.gate.matrix->panels();
  for (Worker& worker : buf.workers) {
    worker.gate.reserve(kRowBlock, kMlpBlocks * kBlockColumns);
    worker.up.reserve(kRowBlock, kMlpBlocks * kBlockColumns);
  }
  // A few blocks of columns go from the two products to the activated result in one go.
  parallel_patches(*pool_, (panels + 1) / 2, kMlpBlocks, rows,
                   [&](size_t begin, size_t end, size_t row_begin, size_t row_end, int worker) {
                     const auto& [gate, up] = buf.workers[static_cast<size_t>(worker)];
                     const Patch patch{begin * 2, std::min(end * 2, panels) - begin * 2, row_begin,
                                       row_end};
                     multiply_patch(kernels_, buf.normed, buf.quantized.view(), *s.gate.matrix,
                                    s.gate.bias, patch, gate.row(0), gate.stride(), false);
                     multiply_patch(kernels_, buf.normed, buf.quantized.view(), *s.up.matrix,
                                    s.up.bias, patch, up.row(0), up.stride(), false);
                     const size_t columns = patch.count * kPanelRows;
                     for (size_t r = row_begin; r < row_end; ++r) {
                       float* x = gate.row(r - row_begin);
                       float* y = quantize ? x : buf.inner.row(r) + begin * kBlockColumns;
                       activate(x, up.row(r - row_begin), columns, y);
                       std::fill(y + columns, y + (end - begin) * kBlockColumns, 0.0f);
                       if (quantize)
                         kernels_.quantize_row(y, r, begin, end, buf.quantized_inner.view());
                     }
                   });
  if (quantize && planes_ == Planes::kAdaptive) {
    pool_->parallel_for(rows, kRowGrain, [&](size_t begin, size_t end, int) {
      for (size_t r = begin; r < end; ++r) kernels_.choose_refined(r, buf.quantized_inner.view());
    });
  }
  if (s.post_norm) {
    buf.normed.reserve(rows, hidden_);
    multiply(buf.inner, buf.quantized_inner, rows, {{*s.down.matrix, s.down.bias, buf.normed}},
             false);
    add_post_norm(*s.post_norm, rows);
  } else {
    multiply(buf.inner, buf.quantized_inner, rows, {{*s.down.matrix, s.down.bias, buf.residual}},
             true);
  }
}

// residual += norm(normed)
void Program::add_post_norm(const NormWeights& norm, size_t rows) {
  Buffers& buf = *buffers_;
  pool_->parallel_for(rows, kRowGrain, [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; ++r) {
      float* y = buf.normed.row(r);
      kernels_.rms_norm(y, norm.weight.data(), norm.epsilon, hidden_, hidden_, y);
      float* x = buf.residual.row(r);
      for (size_t i = 0; i < hidden_; ++i) x[i] += y[i];
    }
  });
}

void Program::run_head(const BatchView& batch, float* logits) {
  Buffers& buf = *buffers_;
  const size_t vocabulary = vocab_size();
  // The wanted rows, gathered.
  buf.mixed.reserve(std::max<size_t>(batch.num_logits, 1), hidden_);
  for (size_t i = 0; i < batch.num_logits; ++i)
    std::memcpy(buf.mixed.row(i), buf.residual.row(static_cast<size_t>(batch.logit_rows[i])),
                buf.residual.stride() * sizeof(float));
  // Where a row of logits fills whole panels, it is written in place.
  const bool direct = vocabulary % kPanelRows == 0;
  for (size_t first = 0; first < batch.num_logits; first += kRowBlock) {
    const size_t rows = std::min(kRowBlock, batch.num_logits - first);
    normalize(head_norm_, buf.mixed.row(first), rows,
              reserve(buf.quantized, rows, {&head_}, kHeadPlanes));
    float* target = logits + first * vocabulary;
    if (HeadScan::pays(*head_.matrix, batch.num_logits, batch.num_best) &&
        buf.head_scan.run(
            {buf.normed, buf.quantized.view(), *head_.matrix, head_.bias, batch.num_best, target}))
      continue;
    if (direct) {
      multiply(buf.normed, buf.quantized, rows, {{*head_.matrix, head_.bias, target, vocabulary}},
               false);
      continue;
    }
    buf.logits.reserve(rows, vocabulary);
    multiply(buf.normed, buf.quantized, rows, {{*head_.matrix, head_.bias, buf.logits}}, false);
    for (size_t r = 0; r < rows; ++r)
      std::memcpy(target + r * vocabulary, buf.logits.row(r), vocabulary * sizeof(float));
  }
}

}  // namespace lepton
