#include <algorithm>
#include <cstring>

#include "encoder_parts.h"

namespace lepton {

namespace {

// Rows that a team's threads take at a time.
constexpr size_t kRowGrain = 16;
constexpr size_t kProductRows = 128;

void apply_norm(const EncoderKernels& kernels, const EncoderNorm& norm, const float* x, float* y) {
  const size_t size = norm.weight.size();
  if (norm.bias.empty())
    kernels.rms_norm(x, norm.weight.data(), norm.epsilon, size, y);
  else
    kernels.layer_norm(x, norm.weight.data(), norm.bias.data(), norm.epsilon, size, y);
}

// Turns the pairs of a head of 2 · `half` values.
void turn(float* head, size_t half, bool interleaved, const float* cosines, const float* sines) {
  for (size_t i = 0; i < half; ++i) {
    float& a = interleaved ? head[2 * i] : head[i];
    float& b = interleaved ? head[2 * i + 1] : head[i + half];
    const float x = a, y = b;
    a = x * cosines[i] - y * sines[i];
    b = x * sines[i] + y * cosines[i];
  }
}

}  // namespace

void EncoderProgram::embed(const Group& group, const TextBatch& batch, EncoderWorkspace& work,
                           const Team& team) const {
  const EncoderEmbedding& e = embedding_;
  for (size_t t = group.first_text; t < group.last_text; ++t) {
    const auto first = static_cast<size_t>(batch.row_starts[t]);
    const auto last = static_cast<size_t>(batch.row_starts[t + 1]);
    team.each(last - first, kRowGrain, [&](size_t begin, size_t end, size_t) {
      for (size_t i = begin; i < end; ++i) {
        const size_t r = first + i;
        float* x = work.state.row<float>(r - group.first_row);
        const auto token = static_cast<size_t>(batch.token_ids[r]);
        e.table ? e.table->unpack_row(token, x) : e.matrix->unpack_row(token, x);
        if (e.scale != 1.0f)
          for (size_t c = 0; c < hidden_; ++c) x[c] *= e.scale;
        if (!e.positions.values.empty())
          kernels_.add(e.positions.values.data() + (i + e.position_offset) * hidden_, hidden_, x);
        if (!e.kinds.values.empty()) {
          const size_t kind = batch.kinds ? static_cast<size_t>(batch.kinds[r]) : 0;
          kernels_.add(e.kinds.values.data() + kind * hidden_, hidden_, x);
        }
      }
    });
  }
}

// The operand of the next product from `count` floats at x, which are zero-padded there to a
// multiple of 16.
void EncoderProgram::emit(const float* x, size_t row, size_t count, EncoderWorkspace& work) const {
  const size_t padded = round_to(count, 16);
  uint8_t* target = work.operand.row(row);
  if (type_ == DenseType::kFloat32)
    std::memcpy(target, x, padded * sizeof(float));
  else if (type_ == DenseType::kBFloat16)
    kernels_.to_half(x, padded, reinterpret_cast<uint16_t*>(target));
  else if (type_ == DenseType::kInt8)
    work.quantized[row] = kernels_.quantize(x, count, target);
  else
    work.quantized[row] = kernels_.quantize_words(x, count, reinterpret_cast<int16_t*>(target));
}

// Ends a stage and begins the next: adds what the stage gave to the state, normalizes it, and makes
// the operand of the next product from it.
void EncoderProgram::advance(const std::optional<EncoderNorm>* post,
                             const std::optional<EncoderNorm>* residual,
                             const std::optional<EncoderNorm>* next, bool add, size_t rows,
                             EncoderWorkspace& work, const Team& team) const {
  const size_t padded = round_to(hidden_, 16);
  if (next != nullptr) work.operand.shape(rows, padded * operand_element_);
  team.each(rows, kRowGrain, [&](size_t begin, size_t end, size_t worker) {
    float* line = scratch_[worker].line.as<float>();
    std::fill(line + hidden_, line + padded, 0.0f);
    for (size_t r = begin; r < end; ++r) {
      float* x = work.state.row<float>(r);
      if (add) {
        float* delta = work.delta.row<float>(r);
        if (post != nullptr && *post) apply_norm(kernels_, **post, delta, delta);
        kernels_.add(delta, hidden_, x);
      }
      if (residual != nullptr && *residual) apply_norm(kernels_, **residual, x, x);
      if (next == nullptr) continue;
      const float* y = x;
      if (*next) {
        apply_norm(kernels_, **next, x, line);
        y = line;
      } else if (padded != hidden_) {
        std::memcpy(line, x, hidden_ * sizeof(float));
        y = line;
      }
      emit(y, r, hidden_, work);
    }
  });
}

void EncoderProgram::multiply(const DenseLinear& linear, const ByteRows& operand, size_t rows,
                              Activation activation, const ByteRows& output, bool half_output,
                              const EncoderWorkspace& work, const Team& team) const {
  const DenseMatrix& matrix = *linear.matrix;
  const auto kernel = kernels_.multiply[static_cast<size_t>(type_)];
  const size_t element = half_output ? sizeof(uint16_t) : sizeof(float);
  const auto part = [&](size_t row_begin, size_t row_end, size_t panel, size_t count) {
    DenseProduct product{};
    product.input = operand.row(row_begin);
    product.input_stride = operand.stride();
    product.rows = row_end - row_begin;
    product.steps = matrix.steps();
    product.panels = matrix.panel(panel);
    product.panel_bytes = matrix.panel_bytes();
    product.num_panels = count;
    product.bias = linear.bias.data() + panel * 16;
    if (has_scales(type_)) {
      product.scales = matrix.scales() + panel * 16;
      product.sums = matrix.sums() + panel * 16;
      if (type_ == DenseType::kInt8) product.starts = matrix.starts() + panel * 16;
      product.quantized = work.quantized.data() + row_begin;
    }
    product.output = output.row(row_begin) + panel * 16 * element;
    product.output_stride = output.stride();
    product.half_output = half_output;
    product.activation = activation;
    kernel(product);
  };
  if (team.pool == nullptr) return part(0, rows, 0, matrix.panels());
  const size_t pairs = (matrix.panels() + 1) / 2;
  const size_t blocks = (rows + kProductRows - 1) / kProductRows;
  const size_t grain = std::max<size_t>(1, pairs / (team.size() * 4));
  team.each(pairs * blocks, grain, [&](size_t begin, size_t end, size_t) {
    while (begin < end) {
      const size_t block = begin / pairs, first = begin % pairs;
      const size_t count = std::min(end - begin, pairs - first);
      const size_t last = std::min((first + count) * 2, matrix.panels());
      part(rows * block / blocks, rows * (block + 1) / blocks, first * 2, last - first * 2);
      begin += count;
    }
  });
}

void EncoderProgram::rotate(const Layer& layer, const Group& group, const TextBatch& batch,
                            EncoderWorkspace& work, const Team& team) const {
  const EncoderAttentionStage& s = *layer.attention;
  if (!s.rope && !s.query_norm && !s.key_norm) return;
  const size_t heads = s.num_heads + s.num_kv_heads, width = heads * s.head_dim;
  const EncoderRopeTable* rope = s.rope ? &rope_tables_[layer.rope_table] : nullptr;
  for (size_t t = group.first_text; t < group.last_text; ++t) {
    const size_t first = static_cast<size_t>(batch.row_starts[t]) - group.first_row;
    const size_t last = static_cast<size_t>(batch.row_starts[t + 1]) - group.first_row;
    team.each(last - first, kRowGrain, [&](size_t begin, size_t end, size_t worker) {
      for (size_t i = begin; i < end; ++i) {
        uint8_t* row = work.joined.row(first + i);
        float* x = half_ ? scratch_[worker].line.as<float>() : reinterpret_cast<float*>(row);
        if (half_) kernels_.from_half(reinterpret_cast<uint16_t*>(row), round_to(width, 16), x);
        for (size_t h = 0; h < heads; ++h) {
          float* head = x + h * s.head_dim;
          const auto& norm = h < s.num_heads ? s.query_norm : s.key_norm;
          if (norm) apply_norm(kernels_, *norm, head, head);
          if (rope != nullptr)
            turn(head, s.head_dim / 2, s.rope->interleaved, rope->cosines(i), rope->sines(i));
        }
        if (!half_) continue;
        // What the last vector holds of the values goes back as it came.
        kernels_.to_half(x, round_to(width, 16), reinterpret_cast<uint16_t*>(row));
      }
    });
  }
}

void EncoderProgram::attend(const Layer& layer, const Group& group, const TextBatch& batch,
                            EncoderWorkspace& work, const Team& team) const {
  const EncoderAttentionStage& s = *layer.attention;
  const size_t element = half_ ? sizeof(uint16_t) : sizeof(float);
  const size_t width = s.num_heads * s.head_dim, shared = s.num_kv_heads * s.head_dim;
  const size_t padded = round_to(width, 16);
  work.joined.shape(group.rows, layer.room.joined);
  multiply(s.joined, work.operand, group.rows, Activation::kNone, work.joined, half_, work, team);
  rotate(layer, group, batch, work, team);
  // In bf16 the result is the operand of the next product as it is.
  ByteRows& mixed = has_scales(type_) ? work.mixed : work.operand;
  mixed.shape(group.rows, has_scales(type_) ? layer.room.mixed : layer.room.operand);
  const auto kernel = half_ ? kernels_.attend_half : kernels_.attend;
  const size_t per_kv = s.num_heads / s.num_kv_heads;
  const size_t texts = group.last_text - group.first_text;
  team.each(texts * s.num_kv_heads, 1, [&](size_t begin, size_t end, size_t worker) {
    for (size_t i = begin; i < end; ++i) {
      const size_t text = group.first_text + i / s.num_kv_heads, head = i % s.num_kv_heads;
      const size_t first = static_cast<size_t>(batch.row_starts[text]) - group.first_row;
      const uint8_t* row = work.joined.row(first);
      EncoderAttention item{};
      item.queries = row + head * per_kv * s.head_dim * element;
      item.keys = row + (width + head * s.head_dim) * element;
      item.values = row + (width + shared + head * s.head_dim) * element;
      item.stride = work.joined.stride();
      item.tokens = static_cast<size_t>(batch.row_starts[text + 1] - batch.row_starts[text]);
      item.group = per_kv;
      item.head_dim = s.head_dim;
      item.scale = s.scale;
      item.causal = s.causal;
      item.window = s.window == 0 ? SIZE_MAX : s.window;
      item.row_begin = 0;
      item.row_end = item.tokens;
      item.output = mixed.row(first) + head * per_kv * s.head_dim * element;
      item.output_stride = mixed.stride();
      item.scratch = scratch_[worker].attention.data();
      kernel(item);
    }
  });
  if (padded != width || has_scales(type_)) {
    if (has_scales(type_)) work.operand.shape(group.rows, layer.room.operand);
    team.each(group.rows, kRowGrain, [&](size_t begin, size_t end, size_t worker) {
      float* line = scratch_[worker].line.as<float>();
      for (size_t r = begin; r < end; ++r) {
        std::memset(mixed.row(r) + width * element, 0, (padded - width) * element);
        if (!has_scales(type_)) continue;
        const float* x = mixed.row<float>(r);
        if (half_) {
          kernels_.from_half(mixed.row<uint16_t>(r), padded, line);
          x = line;
        }
        emit(x, r, width, work);
      }
    });
  }
  multiply(s.output, work.operand, group.rows, Activation::kNone, work.delta, false, work, team);
}

void EncoderProgram::mix(const Layer& layer, size_t rows, EncoderWorkspace& work,
                         const Team& team) const {
  const EncoderMlpStage& s = *layer.mlp;
  const size_t inner = s.up.matrix->rows() / (s.gated ? 2 : 1), padded = round_to(inner, 16);
  const bool half = half_ && !s.gated;
  work.inner.shape(rows, layer.room.inner);
  multiply(s.up, work.operand, rows, s.gated ? Activation::kNone : s.activation, work.inner, half,
           work, team);
  // What activations make of the padding is not zero in itself, but the padding's weights are.
  const bool direct = !s.gated && type_ == DenseType::kBFloat16;
  if (!direct) {
    work.operand.shape(rows, layer.room.operand);
    team.each(rows, kRowGrain, [&](size_t begin, size_t end, size_t worker) {
      float* line = scratch_[worker].line.as<float>();
      for (size_t r = begin; r < end; ++r) {
        float* x = work.inner.row<float>(r);
        if (s.gated) kernels_.gate(s.activation, x + inner, inner, x);
        if (half) {
          kernels_.from_half(work.inner.row<uint16_t>(r), padded, line);
          x = line;
        }
        emit(x, r, inner, work);
      }
    });
  }
  multiply(s.down, direct ? work.inner : work.operand, rows, Activation::kNone, work.delta, false,
           work, team);
}

void EncoderProgram::pool(const Group& group, const TextBatch& batch, TextPooling pooling,
                          const EncoderWorkspace& work, float* out) const {
  if (pooling == TextPooling::kNone) {
    for (size_t r = 0; r < group.rows; ++r)
      std::memcpy(out + (group.first_row + r) * hidden_, work.state.row(r),
                  hidden_ * sizeof(float));
    return;
  }
  for (size_t t = group.first_text; t < group.last_text; ++t) {
    float* sum = out + t * hidden_;
    const size_t text_first = static_cast<size_t>(batch.row_starts[t]) - group.first_row;
    size_t first = text_first;
    const size_t last = static_cast<size_t>(batch.row_starts[t + 1]) - group.first_row;
    if (batch.pool_starts != nullptr) first += static_cast<size_t>(batch.pool_starts[t]);
    const size_t only = pooling == TextPooling::kLast ? last - 1 : first;
    std::memcpy(sum, work.state.row(only), hidden_ * sizeof(float));
    if (pooling == TextPooling::kFirst || pooling == TextPooling::kLast) continue;
    // Weights count from the text's first token, whether it is pooled or not.
    const auto weight_of = [&](size_t r) {
      return pooling == TextPooling::kWeighted ? static_cast<float>(r - text_first + 1) : 1.0f;
    };
    float total = weight_of(first);
    if (pooling == TextPooling::kWeighted)
      for (size_t c = 0; c < hidden_; ++c) sum[c] *= total;
    for (size_t r = first + 1; r < last; ++r) {
      const float* x = work.state.row<float>(r);
      const float weight = weight_of(r);
      total += weight;
      if (pooling == TextPooling::kLargest)
        for (size_t c = 0; c < hidden_; ++c) sum[c] = std::max(sum[c], x[c]);
      else if (pooling == TextPooling::kMean)
        kernels_.add(x, hidden_, sum);
      else
        for (size_t c = 0; c < hidden_; ++c) sum[c] += weight * x[c];
    }
    if (pooling == TextPooling::kLargest) continue;
    for (size_t c = 0; c < hidden_; ++c) sum[c] /= total;
  }
}

}  // namespace lepton
