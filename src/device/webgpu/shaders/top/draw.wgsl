// Draws a token from a top-k list and makes it the chosen one: softmax with temperature, top-p, min-p, and
// the inverse of the cumulative distribution. At most 64 entries, so one thread does it.
@group(0) @binding(1) var<storage, read_write> list: array<f32>; // [TOP_HEADER + 2k]

// Below, an f32 exponential may be anything or nothing; here it is nothing.
const LEAST_EXPONENT = -80.0;

fn weight(entry: u32) -> f32 {
    let below = list[TOP_HEADER + 2u * entry + 1u] - list[TOP_HEADER + 1u];
    // Compared before the division: a small temperature would make it infinite.
    if below < LEAST_EXPONENT * params.temperature {
        return 0.0;
    }
    return exp(below / params.temperature);
}

@compute @workgroup_size(1)
fn main() {
    var n_entries = 0u;
    var total = 0.0;
    while n_entries < params.top_k && list[TOP_HEADER + 2u * n_entries] >= 0.0 {
        total += weight(n_entries);
        n_entries += 1u;
    }
    // The first entry always stays; the one that reaches top_p stays, too.
    var n_kept = 0u;
    var sum = 0.0;
    while n_kept < n_entries {
        let own = weight(n_kept);
        if n_kept > 0u && (sum >= params.top_p * total || own < params.min_p) {
            break;
        }
        sum += own;
        n_kept += 1u;
    }
    let threshold = params.random * sum;
    var drawn = 0u;
    var cumulative = weight(0u);
    while drawn + 1u < n_kept && cumulative <= threshold {
        drawn += 1u;
        cumulative += weight(drawn);
    }
    if n_entries > 0u {
        list[CHOSEN] = list[TOP_HEADER + 2u * drawn];
    }
}
