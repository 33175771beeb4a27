/* A QEMU plugin that counts the instructions of an emulated ARM program, inside marked regions only.
 *
 *   qemu-aarch64 -plugin counter.so,out=COUNTS[,blocks=BLOCKS] ...
 *
 * The program marks a region by getpriority(PRIO_PROCESS, REGION_BEGIN) and (…, REGION_END): a system call that
 * changes nothing, here or on a real kernel. COUNTS gets a line for each region: all, SIMD, memory.
 * BLOCKS gets, at exit, a line for each basic block that ran inside regions: its address, how often it ran, and how many
 * instructions it has, all, SIMD, memory; and then the memory map (/proc/self/maps), which gives the addresses names.
 *
 * Debian does not package qemu-plugin.h: what is used of it is declared here, as of API 1 (QEMU 6.0 to 8.2).
 * The program must run its regions on one thread: the counters are not atomic.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;   /* a translated block: instructions that always run together */
struct qemu_plugin_insn;
enum { QEMU_PLUGIN_INLINE_ADD_U64 = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int operation, void *counter, uint64_t operand);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, unsigned, int64_t, uint64_t,
                                          uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *);

int qemu_plugin_version = 1;

enum { SYSCALL_GETPRIORITY = 141, REGION_BEGIN = 0x51510001, REGION_END = 0x51510002 };

struct block {
    void *address;
    uint64_t all, simd, memory; /* instructions in the block */
    uint64_t runs;              /* since the region began */
    uint64_t runs_in_regions;
    struct block *next;
};

static struct block *blocks;
static FILE *counts_file;
static const char *blocks_path;

/* The Arm ARM's top-level encoding groups, by bits 28 to 25 (C4.1); SVE's memory groups have bit 31 set. */
static bool is_memory(uint32_t word)
{
    unsigned group = word >> 25 & 15;
    return group == 2 ? word >> 31 : (group & 5) == 4;
}

/* Scalar floating point is in the same group as SIMD, and counted with it. */
static bool is_simd(uint32_t word)
{
    unsigned group = word >> 25 & 15;
    return (group & 7) == 7 || (group == 2 && !is_memory(word));
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    struct block *block = calloc(1, sizeof *block);
    if (!block)
        abort();
    block->all = qemu_plugin_tb_n_insns(tb);
    block->address = qemu_plugin_insn_haddr(qemu_plugin_tb_get_insn(tb, 0));
    for (size_t i = 0; i < block->all; i++) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), sizeof word);
        block->simd += is_simd(word);
        block->memory += is_memory(word);
    }
    block->next = blocks;
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &block->runs, 1);
}

static void begin_region(void)
{
    for (struct block *b = blocks; b; b = b->next)
        b->runs = 0;
}

static void end_region(void)
{
    uint64_t all = 0, simd = 0, memory = 0;
    for (struct block *b = blocks; b; b = b->next) {
        all += b->runs * b->all;
        simd += b->runs * b->simd;
        memory += b->runs * b->memory;
        b->runs_in_regions += b->runs;
    }
    fprintf(counts_file, "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", all, simd, memory);
    fflush(counts_file);
}

static void system_call(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t which, uint64_t mark, uint64_t a3,
                        uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    if (number == SYSCALL_GETPRIORITY && mark == REGION_BEGIN)
        begin_region();
    if (number == SYSCALL_GETPRIORITY && mark == REGION_END)
        end_region();
}

static void at_exit(qemu_plugin_id_t id, void *data)
{
    FILE *out = fopen(blocks_path, "w"), *maps = fopen("/proc/self/maps", "r");
    if (!out || !maps)
        return;
    for (struct block *b = blocks; b; b = b->next)
        if (b->runs_in_regions)
            fprintf(out, "%p %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", b->address, b->runs_in_regions, b->all,
                    b->simd, b->memory);
    for (int c; (c = getc(maps)) != EOF;)
        putc(c, out);
    fclose(maps);
    fclose(out);
}

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "out=", 4))
            counts_file = fopen(argv[i] + 4, "w");
        if (!strncmp(argv[i], "blocks=", 7))
            blocks_path = strdup(argv[i] + 7);
    }
    if (!counts_file)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, system_call);
    if (blocks_path)
        qemu_plugin_register_atexit_cb(id, at_exit, NULL);
    return 0;
}
