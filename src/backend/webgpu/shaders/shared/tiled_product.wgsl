// A product Aᵢₖ·Bⱼₖ of numbers that the text before it computes: `sizes` gives how many there are of i, j and k, and
// `left_factor`, `right_factor` and `put` take the number of the product first, which is the workgroup's z. A workgroup
// makes a square of 32 by 32 and a thread four by four of it.
const THREADS = 64u;
const SIDE = 8u; // of the square of threads
const OWN = 4u;
const TILE = SIDE * OWN;
// Fours of k that a step takes, and one more, so that rows begin in different banks.
const STEP = 8u;
const STRIDE = STEP + 1u;
var<workgroup> a_tile: array<vec4<f32>, TILE * STRIDE>;
var<workgroup> b_tile: array<vec4<f32>, TILE * STRIDE>;

fn left_four(z: u32, i: u32, k: u32, n: vec3<u32>) -> vec4<f32> {
    var four = vec4<f32>();
    for (var at = 0u; at < 4u; at++) {
        if i < n.x && k + at < n.z {
            four[at] = left_factor(z, i, k + at);
        }
    }
    return four;
}

fn right_four(z: u32, j: u32, k: u32, n: vec3<u32>) -> vec4<f32> {
    var four = vec4<f32>();
    for (var at = 0u; at < 4u; at++) {
        if j < n.y && k + at < n.z {
            four[at] = right_factor(z, j, k + at);
        }
    }
    return four;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let n = sizes();
    let first_i = id.x * TILE;
    let first_j = id.y * TILE;
    let own_i = thread / SIDE;
    let own_j = thread % SIDE;
    var sums: array<vec4<f32>, OWN>; // j in the lanes
    for (var start = 0u; start < n.z; start += 4u * STEP) {
        for (var at = thread; at < TILE * STEP; at += THREADS) {
            let row = at % TILE;
            let four = at / TILE;
            a_tile[row * STRIDE + four] = left_four(id.z, first_i + row, start + 4u * four, n);
            b_tile[row * STRIDE + four] = right_four(id.z, first_j + row, start + 4u * four, n);
        }
        workgroupBarrier();
        for (var k = 0u; k < STEP; k++) {
            var b: array<vec4<f32>, OWN>;
            for (var j = 0u; j < OWN; j++) {
                b[j] = b_tile[(own_j + SIDE * j) * STRIDE + k];
            }
            for (var i = 0u; i < OWN; i++) {
                let a = a_tile[(own_i + SIDE * i) * STRIDE + k];
                sums[i] += vec4<f32>(dot(a, b[0]), dot(a, b[1]), dot(a, b[2]), dot(a, b[3]));
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < OWN; i++) {
        for (var j = 0u; j < OWN; j++) {
            let at_i = first_i + own_i + SIDE * i;
            let at_j = first_j + own_j + SIDE * j;
            if at_i < n.x && at_j < n.y {
                put(id.z, at_i, at_j, sums[i][j]);
            }
        }
    }
}
