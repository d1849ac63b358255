/* Pillow's antialiased resize of RGB pixels, to the same bytes, for processors with vectors.
 *
 * hatch_build.py compiles this file where there is a C compiler, and resizing.py goes to Pillow
 * where there is none. Weights are computed in double precision, each operation as in Pillow and in
 * its order; everything else is whole numbers. So the pixels are the same on any machine.
 *
 * Source: Pillow 13.0.0, src/libImaging/Resample.c: bilinear_filter, bicubic_filter,
 * precompute_coeffs, normalize_coeffs_8bpc, and the rounding of ImagingResampleHorizontal_8bpc.
 * The Python Imaging Library (PIL) is
 *     Copyright (c) 1997-2011 by Secret Labs AB
 *     Copyright (c) 1995-2011 by Fredrik Lundh and contributors
 * Pillow is the friendly PIL fork. It is
 *     Copyright (c) 2010 by Jeffrey 'Alex' Clark and contributors
 * Licensed under the open source MIT-CMU License: permission to use, copy, modify and distribute
 * this software and its documentation for any purpose and without fee is hereby granted, provided
 * that the above copyright notice appears in all copies, and that both that copyright notice and
 * this permission notice appear in supporting documentation, and that the name of Secret Labs AB or
 * the author not be used in advertising or publicity pertaining to distribution of the software
 * without specific, written prior permission.
 * SECRET LABS AB AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE, INCLUDING ALL
 * IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL SECRET LABS AB OR THE AUTHOR
 * BE LIABLE FOR ANY SPECIAL, INDIRECT OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING
 * FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS
 * ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
 */
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if FLT_EVAL_METHOD != 0
#error "double precision is not what this machine computes in: weights could differ from Pillow's"
#endif

#ifdef __x86_64__
#define VECTOR 32 /* bytes */
#define VECTOR_CODE __attribute__((target("avx2")))
#define SUPPORTED __builtin_cpu_supports("avx2")
#else /* such as NEON, which every 64-bit ARM has */
#define VECTOR 16
#define VECTOR_CODE
#define SUPPORTED 1
#endif

enum {
    CHANNELS = 3,
    ROWS = VECTOR / CHANNELS, /* whose pixels of one column fill a vector */
    BITS = 32 - 8 - 2,        /* after the point: bicubic sums leave [0, 255] on both sides */
};

typedef uint32_t Words __attribute__((vector_size(VECTOR)));
typedef int32_t Sums __attribute__((vector_size(VECTOR)));

/* What each new position along an axis is made of: `count` old ones from `first` on. */
typedef struct {
    int most; /* weights per position; those from `count` on are unused */
    int *first;
    int *count;
    int32_t *weights;
} Axis;

static double bilinear(double x)
{
    if (x < 0.0)
        x = -x;
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double bicubic(double x)
{
    const double a = -0.5;
    if (x < 0.0)
        x = -x;
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

/* Return whether there was memory for it. */
static int weigh(Axis *axis, int size, int new_size, int cubic)
{
    double (*const filter)(double) = cubic ? bicubic : bilinear;
    const double scale = (double)(float)size / new_size; /* Pillow's box holds floats */
    const double filter_scale = scale < 1.0 ? 1.0 : scale;
    const double inverse = 1.0 / filter_scale;
    const double support = (cubic ? 2.0 : 1.0) * filter_scale;
    axis->most = (int)ceil(support) * 2 + 1;
    axis->first = malloc(new_size * sizeof *axis->first);
    axis->count = malloc(new_size * sizeof *axis->count);
    axis->weights = malloc((size_t)new_size * axis->most * sizeof *axis->weights);
    double *shares = malloc(axis->most * sizeof *shares);
    const int complete = axis->first && axis->count && axis->weights && shares;
    for (int i = 0; complete && i < new_size; i++) {
        const double center = (i + 0.5) * scale;
        int first = (int)(center - support + 0.5);
        int end = (int)(center + support + 0.5);
        if (first < 0)
            first = 0;
        if (end > size)
            end = size;
        double total = 0.0;
        for (int j = 0; j < end - first; j++) {
            shares[j] = filter((j + first - center + 0.5) * inverse);
            total += shares[j];
        }
        int32_t *weights = axis->weights + (size_t)i * axis->most;
        for (int j = 0; j < end - first; j++) {
            const double share = total != 0.0 ? shares[j] / total : shares[j];
            weights[j] = (int32_t)((share < 0 ? -0.5 : 0.5) + share * (1 << BITS));
        }
        axis->first[i] = first;
        axis->count[i] = end - first;
    }
    free(shares);
    return complete;
}

/* Write a vector of bytes: the weighted sum of `count` vectors that lie `pitch` bytes apart.
 *
 * Four bytes lie in a word. Each is summed in 32 bits, which suffices: weights add up to 1 << BITS,
 * the negative ones of bicubic to no less than -0.14 of that.
 */
static inline __attribute__((always_inline)) VECTOR_CODE void
blend(uint8_t *out, const uint8_t *in, ptrdiff_t pitch, const int32_t *weights, int count)
{
    Sums sums[4];
    for (int byte = 0; byte < 4; byte++)
        sums[byte] = (Sums){0} + (1 << (BITS - 1));
    for (int i = 0; i < count; i++, in += pitch) {
        Words words;
        memcpy(&words, in, sizeof words);
        for (int byte = 0; byte < 4; byte++)
            sums[byte] += (Sums)(words >> 8 * byte & 255) * weights[i];
    }
    Words words = {0};
    for (int byte = 0; byte < 4; byte++) {
        Sums sum = sums[byte] >> BITS;
        const Sums over = sum > 255;
        sum = ((sum & ~over) | (over & 255)) & (sum > 0);
        words |= (Words)sum << 8 * byte;
    }
    memcpy(out, &words, sizeof words);
}

/* Write the pixels of ROWS rows by column, a vector each; after the last row comes itself again.
 *
 * A word is moved at a time; the fourth byte gives way to the next pixel, or lies in no row.
 */
static void turn(uint8_t *columns, const uint8_t *image, ptrdiff_t pitch, int n_rows, size_t width)
{
    const uint8_t *rows[ROWS];
    for (int y = 0; y < ROWS; y++)
        rows[y] = image + pitch * (y < n_rows ? y : n_rows - 1);
    for (size_t x = 0; x < width - 1; x++)
        for (int y = 0; y < ROWS; y++)
            memcpy(columns + VECTOR * x + CHANNELS * y, rows[y] + CHANNELS * x, 4);
    for (int y = 0; y < ROWS; y++) {
        const size_t last = width - 1;
        memcpy(columns + VECTOR * last + CHANNELS * y, rows[y] + CHANNELS * last, CHANNELS);
    }
}

/* Resize ROWS rows, given by column, across; each is followed by a byte of no meaning. */
VECTOR_CODE static void
across(uint8_t *rows, ptrdiff_t pitch, const uint8_t *columns, const Axis *axis, int new_width)
{
    for (int x = 0; x < new_width; x++) {
        uint8_t column[VECTOR];
        blend(column, columns + (size_t)VECTOR * axis->first[x], VECTOR,
              axis->weights + (size_t)x * axis->most, axis->count[x]);
        for (int y = 0; y < ROWS; y++)
            memcpy(rows + pitch * y + CHANNELS * x, column + CHANNELS * y, 4);
    }
}

/* Write a row that is the weighted sum of others, all of them `pitch` bytes, whole vectors. */
VECTOR_CODE static void
down(uint8_t *row, const uint8_t *rows, ptrdiff_t pitch, const int32_t *weights, int count)
{
    for (ptrdiff_t x = 0; x < pitch; x += VECTOR)
        blend(row + x, rows + x, pitch, weights, count);
}

/* Return whether this processor has what this file was compiled for. */
int headstart_supported(void)
{
    return SUPPORTED;
}

/* Resize across, then down, rounding to bytes in between; sizes are at least 1.
 *
 * Pixels of a row lie side by side, rows of the image `pitch` bytes apart. Only as many rows as the next one is
 * made of are held between the two steps. Return 0, or -1 where memory is lacking.
 */
int headstart_resample(const uint8_t *image, ptrdiff_t pitch, int height, int width,
                       uint8_t *resized, int new_height, int new_width, int cubic)
{
    const size_t row_size = (size_t)CHANNELS * new_width;
    const ptrdiff_t row_pitch = row_size / VECTOR * VECTOR + VECTOR; /* room for one more byte */
    Axis horizontal = {0}, vertical = {0};
    uint8_t *columns = NULL, *rows = NULL, *row = NULL;
    int status = -1;
    if (!weigh(&horizontal, width, new_width, cubic) || !weigh(&vertical, height, new_height, cubic))
        goto end;
    const int capacity = vertical.most + ROWS;
    columns = calloc(width, VECTOR);
    rows = calloc(capacity, row_pitch);
    row = malloc(row_pitch);
    if (!columns || !rows || !row)
        goto end;
    int held = 0, next = 0; /* rows of the image: the first that is held, the first to come */
    for (int y = 0; y < new_height; y++) {
        const int first = vertical.first[y], count = vertical.count[y];
        while (next < first + count) {
            if (next + ROWS - held > capacity) {
                memmove(rows, rows + row_pitch * (first - held), row_pitch * (next - first));
                held = first;
            }
            const int n_rows = height - next < ROWS ? height - next : ROWS;
            turn(columns, image + pitch * next, pitch, n_rows, width);
            across(rows + row_pitch * (next - held), row_pitch, columns, &horizontal, new_width);
            next += n_rows;
        }
        down(row, rows + row_pitch * (first - held), row_pitch,
             vertical.weights + (size_t)y * vertical.most, count);
        memcpy(resized + row_size * y, row, row_size);
    }
    status = 0;
end:
    free(horizontal.first);
    free(horizontal.count);
    free(horizontal.weights);
    free(vertical.first);
    free(vertical.count);
    free(vertical.weights);
    free(columns);
    free(rows);
    free(row);
    return status;
}
