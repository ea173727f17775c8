/*
 * Walking over a stack: an interpreter of DWARF call frame information for x86_64.
 *
 * See the DWARF 5 standard, 6.4, and the Linux Standard Base on .eh_frame and .eh_frame_hdr. What compilers and the C
 * library of this platform do not use is not supported, and gives an error.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_park_unwind.h"

#ifdef LPM_PARK_SUPPORTED

/* A function may use this much below its stack pointer. */
#define RED_ZONE 128

/* The stack of expressions, and how many operations one may take: its jumps could be a loop. */
#define DEPTH      16
#define OPERATIONS 256

/* rules for a register */
enum { SAME, UNDEFINED, AT_CFA, IS_CFA, REGISTER, AT_EXPRESSION, IS_EXPRESSION };

/* encodings of pointers */
#define PE_ABSPTR   0x00
#define PE_UDATA2   0x02
#define PE_UDATA4   0x03
#define PE_UDATA8   0x04
#define PE_SDATA2   0x0a
#define PE_SDATA4   0x0b
#define PE_SDATA8   0x0c
#define PE_FORMAT   0x0f
#define PE_PCREL    0x10
#define PE_RELATIVE 0x70
#define PE_INDIRECT 0x80
#define PE_TABLE    0x3b /* the only form of the search table that linkers make: sdata4, relative to the table */

/* instructions, named as in the standard: the first three are the two high bits, with an operand in the others */
enum {
    CFA_HIGH = 0xc0,
    CFA_LOW = 0x3f,
    CFA_ADVANCE_LOC = 0x40,
    CFA_OFFSET = 0x80,
    CFA_RESTORE = 0xc0,
    CFA_NOP = 0x00,
    CFA_SET_LOC = 0x01,
    CFA_ADVANCE_LOC1 = 0x02,
    CFA_ADVANCE_LOC2 = 0x03,
    CFA_ADVANCE_LOC4 = 0x04,
    CFA_OFFSET_EXTENDED = 0x05,
    CFA_RESTORE_EXTENDED = 0x06,
    CFA_UNDEFINED = 0x07,
    CFA_SAME_VALUE = 0x08,
    CFA_REGISTER = 0x09,
    CFA_REMEMBER_STATE = 0x0a,
    CFA_RESTORE_STATE = 0x0b,
    CFA_DEF_CFA = 0x0c,
    CFA_DEF_CFA_REGISTER = 0x0d,
    CFA_DEF_CFA_OFFSET = 0x0e,
    CFA_DEF_CFA_EXPRESSION = 0x0f,
    CFA_EXPRESSION = 0x10,
    CFA_OFFSET_EXTENDED_SF = 0x11,
    CFA_DEF_CFA_SF = 0x12,
    CFA_DEF_CFA_OFFSET_SF = 0x13,
    CFA_VAL_OFFSET = 0x14,
    CFA_VAL_OFFSET_SF = 0x15,
    CFA_VAL_EXPRESSION = 0x16,
    CFA_GNU_ARGS_SIZE = 0x2e,
    CFA_GNU_NEGATIVE_OFFSET = 0x2f,
};

/* operations of expressions */
enum {
    OP_ADDR = 0x03,
    OP_DEREF = 0x06,
    OP_CONST1U = 0x08,
    OP_CONST1S = 0x09,
    OP_CONST2U = 0x0a,
    OP_CONST2S = 0x0b,
    OP_CONST4U = 0x0c,
    OP_CONST4S = 0x0d,
    OP_CONST8U = 0x0e,
    OP_CONST8S = 0x0f,
    OP_CONSTU = 0x10,
    OP_CONSTS = 0x11,
    OP_DUP = 0x12,
    OP_DROP = 0x13,
    OP_OVER = 0x14,
    OP_PICK = 0x15,
    OP_SWAP = 0x16,
    OP_AND = 0x1a,
    OP_DIV = 0x1b,
    OP_MINUS = 0x1c,
    OP_MOD = 0x1d,
    OP_MUL = 0x1e,
    OP_NEG = 0x1f,
    OP_NOT = 0x20,
    OP_OR = 0x21,
    OP_PLUS = 0x22,
    OP_PLUS_UCONST = 0x23,
    OP_SHL = 0x24,
    OP_SHR = 0x25,
    OP_SHRA = 0x26,
    OP_XOR = 0x27,
    OP_BRA = 0x28,
    OP_EQ = 0x29,
    OP_GE = 0x2a,
    OP_GT = 0x2b,
    OP_LE = 0x2c,
    OP_LT = 0x2d,
    OP_NE = 0x2e,
    OP_SKIP = 0x2f,
    OP_LIT0 = 0x30,
    OP_LIT31 = 0x4f,
    OP_BREG0 = 0x70,
    OP_DEREF_SIZE = 0x94,
    OP_NOP = 0x96,
};

/* ---- reading unwind information ---- */

typedef struct {
    const uint8_t *p, *end;
    bool bad;
} reader_t;

static uint64_t take(reader_t *in, unsigned size)
{
    uint64_t value = 0;

    if (in->bad || (size_t)(in->end - in->p) < size) {
        in->bad = true;
        return 0;
    }
    for (unsigned i = 0; i < size; ++i) {
        value |= (uint64_t)in->p[i] << (8 * i);
    }
    in->p += size;
    return value;
}

static int64_t take_signed(reader_t *in, unsigned size)
{
    unsigned unused = 64 - 8 * size;

    return (int64_t)(take(in, size) << unused) >> unused;
}

static uint64_t take_uleb(reader_t *in)
{
    uint64_t value = 0, byte;
    unsigned shift = 0;

    do {
        byte = take(in, 1);
        value |= (shift < 64) ? (byte & 0x7f) << shift : 0;
        shift += 7;
    } while (0 != (byte & 0x80));
    return value;
}

static int64_t take_sleb(reader_t *in)
{
    uint64_t value = 0, byte;
    unsigned shift = 0;

    do {
        byte = take(in, 1);
        value |= (shift < 64) ? (byte & 0x7f) << shift : 0;
        shift += 7;
    } while (0 != (byte & 0x80));
    if (shift < 64 && 0 != (byte & 0x40)) {
        value |= ~(uint64_t)0 << shift;
    }
    return (int64_t)value;
}

static uint64_t take_encoded(reader_t *in, uint8_t encoding)
{
    uint64_t at = (uintptr_t)in->p, value = 0;

    switch (encoding & PE_FORMAT) {
    case PE_ABSPTR:
    case PE_UDATA8:
    case PE_SDATA8: value = take(in, 8); break;
    case PE_UDATA4: value = take(in, 4); break;
    case PE_SDATA4: value = (uint64_t)take_signed(in, 4); break;
    case PE_UDATA2: value = take(in, 2); break;
    case PE_SDATA2: value = (uint64_t)take_signed(in, 2); break;
    default: in->bad = true; break;
    }
    if (PE_PCREL == (encoding & PE_RELATIVE)) {
        value += at;
    } else if (0 != (encoding & PE_RELATIVE)) {
        in->bad = true;
    }
    return value;
}

/* Steps over the length of an entry and limits the reader to it. */
static void take_entry(reader_t *in)
{
    uint64_t length = take(in, 4);

    if (0 == length || 0xffffffff <= length || (uint64_t)(in->end - in->p) < length) {
        in->bad = true; /* a terminator, the 64 bit format, nonsense */
        return;
    }
    in->end = in->p + length;
}

/* The "z" augmentation of a CIE: a letter for each datum. */
static void take_augmentation(reader_t *in, const uint8_t *letters, lpm_unwind_function_t *function)
{
    uint64_t length = take_uleb(in);
    const uint8_t *after = in->p + length;

    if (in->bad || (uint64_t)(in->end - in->p) < length) {
        in->bad = true;
        return;
    }
    for (++letters; '\0' != *letters; ++letters) {
        switch (*letters) {
        case 'R': function->encoding = (uint8_t)take(in, 1); break;
        case 'L': (void)take(in, 1); break;
        case 'P': (void)take_encoded(in, (uint8_t)take(in, 1) & (uint8_t)~PE_INDIRECT); break;
        case 'S': function->is_signal_frame = true; break;
        default: in->bad = true; break;
        }
    }
    in->p = after;
}

static bool read_cie(const uint8_t *at, const uint8_t *end, lpm_unwind_function_t *function)
{
    reader_t in = {.p = at, .end = end};
    const uint8_t *letters;
    uint64_t version, ra;

    take_entry(&in);
    if (0 != take(&in, 4)) {
        return false;
    }
    version = take(&in, 1);
    letters = in.p;
    while ('\0' != take(&in, 1)) {
        ; /* the end of the entry ends this, too */
    }
    function->code_align = take_uleb(&in);
    function->data_align = take_sleb(&in);
    ra = (1 == version) ? take(&in, 1) : take_uleb(&in);
    function->encoding = PE_ABSPTR;
    function->is_signal_frame = false;
    if (in.bad || (1 != version && 3 != version) || LPM_UNWIND_PC != ra) {
        return false;
    }
    if ('z' == letters[0]) {
        take_augmentation(&in, letters, function);
    } else if ('\0' != letters[0]) {
        return false;
    }
    function->common = in.p;
    function->common_end = in.end;
    return !in.bad;
}

static bool read_fde(const uint8_t *at, const uint8_t *start, const uint8_t *end, uintptr_t pc,
                     lpm_unwind_function_t *function)
{
    reader_t in = {.p = at, .end = end};
    const uint8_t *here;
    uint64_t back, range, length;

    take_entry(&in);
    here = in.p;
    back = take(&in, 4);
    if (in.bad || 0 == back || (uint64_t)(here - start) < back || !read_cie(here - back, end, function)) {
        return false;
    }
    function->begin = take_encoded(&in, function->encoding);
    range = take_encoded(&in, function->encoding & PE_FORMAT);
    if (in.bad || pc < function->begin || range <= pc - function->begin) {
        return false;
    }
    length = take_uleb(&in); /* all that is in use has "z"; without it there is no such length, and no 'R' either */
    if (in.bad || (uint64_t)(in.end - in.p) < length) {
        return false;
    }
    function->own = in.p + length;
    function->own_end = in.end;
    return true;
}

/* Looks the code up in the sorted table of .eh_frame_hdr. */
static bool find_function(const struct dl_find_object *object, uintptr_t pc, lpm_unwind_function_t *function)
{
    const uint8_t *table = object->dlfo_eh_frame, *start = object->dlfo_map_start, *end = object->dlfo_map_end;
    reader_t in = {.p = table, .end = end};
    const int32_t *pairs;
    uint64_t low = 0, high;
    uint8_t encodings[3];

    if (NULL == table || table < start || table >= end || 1 != take(&in, 1)) {
        return false;
    }
    for (int i = 0; i < 3; ++i) {
        encodings[i] = (uint8_t)take(&in, 1);
    }
    (void)take_encoded(&in, encodings[0]);
    high = take_encoded(&in, encodings[1]);
    pairs = (const int32_t *)in.p;
    if (in.bad || PE_TABLE != encodings[2] || 0 == high || (uint64_t)(end - in.p) / (2 * sizeof(*pairs)) < high ||
        pc < (uintptr_t)table + (uint64_t)(int64_t)pairs[0]) {
        return false;
    }
    while (1 < high - low) {
        uint64_t middle = low + (high - low) / 2;

        if ((uintptr_t)table + (uint64_t)(int64_t)pairs[2 * middle] <= pc) {
            low = middle;
        } else {
            high = middle;
        }
    }
    table += pairs[2 * low + 1];
    return table >= start && table < end && read_fde(table, start, end, pc, function);
}

/* ---- reading the stack ---- */

static const lpm_range_t *stack_of(const lpm_unwind_t *cursor, uint64_t address)
{
    for (size_t i = 0; i < sizeof(cursor->stacks) / sizeof(cursor->stacks[0]); ++i) {
        if (cursor->stacks[i].low <= address && address < cursor->stacks[i].high) {
            return &cursor->stacks[i];
        }
    }
    return NULL;
}

/* Only what is in use: the part of a stack below the frame may not be there. */
__attribute__((no_sanitize("address"))) static bool peek(const lpm_unwind_t *cursor, uint64_t address, unsigned size,
                                                         uint64_t *value)
{
    const lpm_range_t *stack = stack_of(cursor, address), *own = stack_of(cursor, cursor->reg[LPM_UNWIND_SP]);
    uint64_t found = 0;

    if (NULL == stack || stack->high - address < size ||
        (stack == own && address < cursor->reg[LPM_UNWIND_SP] - RED_ZONE)) {
        return false;
    }
    for (unsigned i = 0; i < size; ++i) {
        found |= (uint64_t)((const uint8_t *)address)[i] << (8 * i);
    }
    *value = found;
    return true;
}

/* ---- expressions ---- */

typedef struct {
    uint64_t stack[DEPTH];
    unsigned n;
    bool bad;
} machine_t;

static void push(machine_t *machine, uint64_t value)
{
    if (DEPTH == machine->n) {
        machine->bad = true;
        return;
    }
    machine->stack[machine->n++] = value;
}

/* The value @p below the top, 0 being the top. */
static uint64_t pick(machine_t *machine, uint64_t below)
{
    if (machine->n <= below) {
        machine->bad = true;
        return 0;
    }
    return machine->stack[machine->n - 1 - below];
}

static uint64_t pop(machine_t *machine)
{
    uint64_t value = pick(machine, 0);

    machine->n -= machine->bad ? 0 : 1;
    return value;
}

static bool is_binary(uint8_t op)
{
    return (OP_AND <= op && op <= OP_NE && OP_DIV != op && OP_MOD != op && OP_NEG != op && OP_NOT != op &&
            OP_PLUS_UCONST != op && OP_BRA != op);
}

/* With two operands, of which the second is on top. */
static void binary(machine_t *machine, uint8_t op)
{
    uint64_t right = pop(machine), left = pop(machine);
    unsigned shift = (unsigned)(right & 63);

    switch (op) {
    case OP_AND: push(machine, left & right); break;
    case OP_MINUS: push(machine, left - right); break;
    case OP_MUL: push(machine, left * right); break;
    case OP_OR: push(machine, left | right); break;
    case OP_PLUS: push(machine, left + right); break;
    case OP_SHL: push(machine, left << shift); break;
    case OP_SHR: push(machine, left >> shift); break;
    case OP_SHRA: push(machine, (uint64_t)((int64_t)left >> shift)); break;
    case OP_XOR: push(machine, left ^ right); break;
    case OP_EQ: push(machine, left == right); break;
    case OP_GE: push(machine, (int64_t)left >= (int64_t)right); break;
    case OP_GT: push(machine, (int64_t)left > (int64_t)right); break;
    case OP_LE: push(machine, (int64_t)left <= (int64_t)right); break;
    case OP_LT: push(machine, (int64_t)left < (int64_t)right); break;
    case OP_NE: push(machine, left != right); break;
    default: machine->bad = true; break;
    }
}

static bool constant(machine_t *machine, reader_t *in, uint8_t op)
{
    switch (op) {
    case OP_CONST1U: push(machine, take(in, 1)); break;
    case OP_CONST1S: push(machine, (uint64_t)take_signed(in, 1)); break;
    case OP_CONST2U: push(machine, take(in, 2)); break;
    case OP_CONST2S: push(machine, (uint64_t)take_signed(in, 2)); break;
    case OP_CONST4U: push(machine, take(in, 4)); break;
    case OP_CONST4S: push(machine, (uint64_t)take_signed(in, 4)); break;
    case OP_ADDR:
    case OP_CONST8U:
    case OP_CONST8S: push(machine, take(in, 8)); break;
    case OP_CONSTU: push(machine, take_uleb(in)); break;
    case OP_CONSTS: push(machine, (uint64_t)take_sleb(in)); break;
    default:
        if (OP_LIT0 > op || OP_LIT31 < op) {
            return false;
        }
        push(machine, op - OP_LIT0);
        break;
    }
    return true;
}

static void jump(reader_t *in, const uint8_t *start, bool taken)
{
    int64_t distance = take_signed(in, 2);

    if (taken && (distance > in->end - in->p || distance < start - in->p)) {
        in->bad = true;
    } else if (taken) {
        in->p += distance;
    }
}

static void other_operation(const lpm_unwind_t *cursor, machine_t *machine, reader_t *in, const uint8_t *start,
                            uint8_t op)
{
    uint64_t value = 0, second;

    if (OP_BREG0 <= op && op < OP_BREG0 + LPM_UNWIND_REGS) {
        push(machine, cursor->reg[op - OP_BREG0] + (uint64_t)take_sleb(in));
        return;
    }
    switch (op) {
    case OP_DEREF:
        machine->bad = !peek(cursor, pop(machine), 8, &value) || machine->bad;
        push(machine, value);
        break;
    case OP_DEREF_SIZE:
        second = take(in, 1);
        machine->bad = (8 < second) || !peek(cursor, pop(machine), (unsigned)second, &value) || machine->bad;
        push(machine, value);
        break;
    case OP_DUP: push(machine, pick(machine, 0)); break;
    case OP_DROP: (void)pop(machine); break;
    case OP_OVER: push(machine, pick(machine, 1)); break;
    case OP_PICK: push(machine, pick(machine, take(in, 1))); break;
    case OP_SWAP:
        value = pop(machine);
        second = pop(machine);
        push(machine, value);
        push(machine, second);
        break;
    case OP_NEG: push(machine, -pop(machine)); break;
    case OP_NOT: push(machine, ~pop(machine)); break;
    case OP_PLUS_UCONST: push(machine, pop(machine) + take_uleb(in)); break;
    case OP_BRA: jump(in, start, 0 != pop(machine)); break;
    case OP_SKIP: jump(in, start, true); break;
    case OP_NOP: break;
    default: machine->bad = true; break;
    }
}

/* @p block points to the length of the expression. */
static bool evaluate(const lpm_unwind_t *cursor, const uint8_t *block, const uint8_t *end, const uint64_t *first,
                     uint64_t *value)
{
    reader_t in = {.p = block, .end = end};
    machine_t machine;
    const uint8_t *start;
    uint64_t length = take_uleb(&in);

    if (in.bad || (uint64_t)(in.end - in.p) < length) {
        return false;
    }
    machine.n = 0;
    machine.bad = false;
    start = in.p;
    in.end = in.p + length;
    if (NULL != first) {
        push(&machine, *first);
    }
    for (int left = OPERATIONS; in.p < in.end && !in.bad && !machine.bad; --left) {
        uint8_t op = (uint8_t)take(&in, 1);

        if (0 == left) {
            return false;
        }
        if (is_binary(op)) {
            binary(&machine, op);
        } else if (!constant(&machine, &in, op)) {
            other_operation(cursor, &machine, &in, start, op);
        }
    }
    *value = pop(&machine);
    return !in.bad && !machine.bad;
}

/* ---- the program of a function ---- */

static void set_rule(lpm_unwind_row_t *row, uint64_t number, uint8_t rule, int64_t value)
{
    if (number < LPM_UNWIND_REGS) { /* vector registers are of no interest */
        row->rule[number] = rule;
        row->value[number] = value;
    }
}

static int64_t take_block(reader_t *in)
{
    const uint8_t *block = in->p;
    uint64_t length = take_uleb(in);

    if (in->bad || (uint64_t)(in->end - in->p) < length) {
        in->bad = true;
        return 0;
    }
    in->p += length;
    return (int64_t)(uintptr_t)block;
}

static void restore_rule(lpm_unwind_t *cursor, uint64_t number)
{
    if (number < LPM_UNWIND_REGS) {
        set_rule(&cursor->row, number, cursor->initial.rule[number], cursor->initial.value[number]);
    }
}

static void define_cfa(lpm_unwind_row_t *row, uint64_t number, int64_t offset, reader_t *in)
{
    in->bad = in->bad || LPM_UNWIND_REGS <= number;
    row->cfa_is_expression = false;
    row->cfa_register = (uint8_t)number;
    row->cfa_value = offset;
}

/* Instructions about how to find the frame, and the state as a whole. */
static bool frame_instruction(lpm_unwind_t *cursor, reader_t *in, uint8_t op)
{
    lpm_unwind_row_t *row = &cursor->row;
    uint64_t number;

    switch (op) {
    case CFA_NOP: break;
    case CFA_REMEMBER_STATE:
        if (LPM_UNWIND_SAVED == cursor->n_saved) {
            in->bad = true;
        } else {
            cursor->saved[cursor->n_saved++] = *row;
        }
        break;
    case CFA_RESTORE_STATE:
        if (0 == cursor->n_saved) {
            in->bad = true;
        } else {
            *row = cursor->saved[--cursor->n_saved];
        }
        break;
    case CFA_DEF_CFA:
        number = take_uleb(in);
        define_cfa(row, number, (int64_t)take_uleb(in), in);
        break;
    case CFA_DEF_CFA_REGISTER: define_cfa(row, take_uleb(in), row->cfa_value, in); break;
    case CFA_DEF_CFA_OFFSET: define_cfa(row, row->cfa_register, (int64_t)take_uleb(in), in); break;
    case CFA_DEF_CFA_EXPRESSION:
        row->cfa_is_expression = true;
        row->cfa_value = take_block(in);
        break;
    case CFA_DEF_CFA_SF:
        number = take_uleb(in);
        define_cfa(row, number, take_sleb(in) * cursor->function.data_align, in);
        break;
    case CFA_DEF_CFA_OFFSET_SF:
        define_cfa(row, row->cfa_register, take_sleb(in) * cursor->function.data_align, in);
        break;
    case CFA_GNU_ARGS_SIZE: (void)take_uleb(in); break;
    default: return false;
    }
    return true;
}

static void register_instruction(lpm_unwind_t *cursor, reader_t *in, uint8_t op)
{
    lpm_unwind_row_t *row = &cursor->row;
    int64_t align = cursor->function.data_align;
    uint64_t number = take_uleb(in);

    switch (op) {
    case CFA_OFFSET_EXTENDED: set_rule(row, number, AT_CFA, (int64_t)take_uleb(in) * align); break;
    case CFA_RESTORE_EXTENDED: restore_rule(cursor, number); break;
    case CFA_UNDEFINED: set_rule(row, number, UNDEFINED, 0); break;
    case CFA_SAME_VALUE: set_rule(row, number, SAME, 0); break;
    case CFA_REGISTER: set_rule(row, number, REGISTER, (int64_t)take_uleb(in)); break;
    case CFA_EXPRESSION: set_rule(row, number, AT_EXPRESSION, take_block(in)); break;
    case CFA_OFFSET_EXTENDED_SF: set_rule(row, number, AT_CFA, take_sleb(in) * align); break;
    case CFA_VAL_OFFSET: set_rule(row, number, IS_CFA, (int64_t)take_uleb(in) * align); break;
    case CFA_VAL_OFFSET_SF: set_rule(row, number, IS_CFA, take_sleb(in) * align); break;
    case CFA_VAL_EXPRESSION: set_rule(row, number, IS_EXPRESSION, take_block(in)); break;
    case CFA_GNU_NEGATIVE_OFFSET: set_rule(row, number, AT_CFA, -((int64_t)take_uleb(in) * align)); break;
    default: in->bad = true; break;
    }
}

/* @return whether the instruction says that what follows is for a later place in the function; moves @p location. */
static bool location_instruction(const lpm_unwind_function_t *function, reader_t *in, uint8_t op, uint64_t *location)
{
    if (CFA_ADVANCE_LOC == (op & CFA_HIGH)) {
        *location += (op & CFA_LOW) * function->code_align;
        return true;
    }
    switch (op) {
    case CFA_SET_LOC: *location = take_encoded(in, function->encoding); break;
    case CFA_ADVANCE_LOC1: *location += take(in, 1) * function->code_align; break;
    case CFA_ADVANCE_LOC2: *location += take(in, 2) * function->code_align; break;
    case CFA_ADVANCE_LOC4: *location += take(in, 4) * function->code_align; break;
    default: return false;
    }
    return true;
}

/* Runs a program as far as it is about the code up to @p pc. */
static bool run(lpm_unwind_t *cursor, const uint8_t *program, const uint8_t *end, uint64_t pc)
{
    reader_t in = {.p = program, .end = end};
    uint64_t location = cursor->function.begin;

    while (in.p < in.end && !in.bad) {
        uint8_t op = (uint8_t)take(&in, 1);

        if (location_instruction(&cursor->function, &in, op, &location)) {
            if (pc < location) {
                break;
            }
        } else if (CFA_OFFSET == (op & CFA_HIGH)) {
            set_rule(&cursor->row, op & CFA_LOW, AT_CFA, (int64_t)take_uleb(&in) * cursor->function.data_align);
        } else if (CFA_RESTORE == (op & CFA_HIGH)) {
            restore_rule(cursor, op & CFA_LOW);
        } else if (!frame_instruction(cursor, &in, op)) {
            register_instruction(cursor, &in, op);
        }
    }
    return !in.bad;
}

static bool compute_row(lpm_unwind_t *cursor, uint64_t pc)
{
    const lpm_unwind_function_t *function = &cursor->function;

    for (int i = 0; i < LPM_UNWIND_REGS; ++i) {
        set_rule(&cursor->row, (uint64_t)i, SAME, 0);
    }
    define_cfa(&cursor->row, LPM_UNWIND_SP, 0, &(reader_t){.bad = false});
    cursor->n_saved = 0;
    if (!run(cursor, function->common, function->common_end, UINT64_MAX)) {
        return false;
    }
    cursor->initial = cursor->row;
    return run(cursor, function->own, function->own_end, pc);
}

/* ---- steps ---- */

static bool caller_register(const lpm_unwind_t *cursor, int number, uint64_t cfa, uint64_t *value)
{
    const lpm_unwind_row_t *row = &cursor->row;
    const uint8_t *end = cursor->object.dlfo_map_end, *block = (const uint8_t *)row->value[number];

    switch (row->rule[number]) {
    case AT_CFA: return peek(cursor, cfa + (uint64_t)row->value[number], 8, value);
    case IS_CFA: *value = cfa + (uint64_t)row->value[number]; return true;
    case REGISTER:
        if (LPM_UNWIND_REGS <= (uint64_t)row->value[number]) {
            return false;
        }
        *value = cursor->reg[row->value[number]];
        return true;
    case AT_EXPRESSION: return evaluate(cursor, block, end, &cfa, value) && peek(cursor, *value, 8, value);
    case IS_EXPRESSION: return evaluate(cursor, block, end, &cfa, value);
    default:
        /* the stack pointer is the CFA by definition; where the caller goes on must be said */
        *value = (LPM_UNWIND_SP == number) ? cfa : cursor->reg[number];
        return LPM_UNWIND_PC != number;
    }
}

/* A stack grows downwards, so callers are higher up. Only a signal changes stacks, or comes without using any. */
static bool goes_up(const lpm_unwind_t *cursor, uint64_t sp)
{
    const lpm_range_t *from = stack_of(cursor, cursor->reg[LPM_UNWIND_SP]), *to = stack_of(cursor, sp);

    if (NULL == from || from != to) {
        return NULL != from && NULL != to && cursor->function.is_signal_frame;
    }
    return cursor->reg[LPM_UNWIND_SP] < sp || (cursor->function.is_signal_frame && cursor->reg[LPM_UNWIND_SP] == sp);
}

/* Where the frame is. A return address may belong to the next function already, so the call is what counts. */
static uintptr_t place(const lpm_unwind_t *cursor)
{
    return cursor->reg[LPM_UNWIND_PC] - (cursor->interrupted ? 0 : 1);
}

void lpm_unwind_begin(lpm_unwind_t *cursor, const ucontext_t *context)
{
    static const uint8_t order[LPM_UNWIND_REGS] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
                                                   REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                                   REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};

    for (int i = 0; i < LPM_UNWIND_REGS; ++i) {
        cursor->reg[i] = (uint64_t)context->uc_mcontext.gregs[order[i]];
    }
    cursor->interrupted = true;
}

lpm_unwind_result_t lpm_unwind_look(lpm_unwind_t *cursor)
{
    uintptr_t pc = place(cursor);

    if (0 != _dl_find_object((void *)pc, &cursor->object)) {
        return LPM_UNWIND_NO_OBJECT;
    }
    return find_function(&cursor->object, pc, &cursor->function) ? LPM_UNWIND_OK : LPM_UNWIND_NO_INFO;
}

lpm_unwind_result_t lpm_unwind_step(lpm_unwind_t *cursor)
{
    const uint8_t *end = cursor->object.dlfo_map_end;
    uint64_t cfa, next[LPM_UNWIND_REGS];

    if (!compute_row(cursor, place(cursor))) {
        return LPM_UNWIND_BROKEN;
    }
    if (UNDEFINED == cursor->row.rule[LPM_UNWIND_PC]) {
        return LPM_UNWIND_END;
    }
    if (!cursor->row.cfa_is_expression) {
        cfa = cursor->reg[cursor->row.cfa_register] + (uint64_t)cursor->row.cfa_value;
    } else if (!evaluate(cursor, (const uint8_t *)cursor->row.cfa_value, end, NULL, &cfa)) {
        return LPM_UNWIND_BROKEN;
    }
    for (int i = 0; i < LPM_UNWIND_REGS; ++i) {
        if (!caller_register(cursor, i, cfa, &next[i])) {
            return LPM_UNWIND_BROKEN;
        }
    }
    if (!goes_up(cursor, next[LPM_UNWIND_SP])) {
        return LPM_UNWIND_BROKEN;
    }
    for (int i = 0; i < LPM_UNWIND_REGS; ++i) {
        cursor->reg[i] = next[i];
    }
    cursor->interrupted = cursor->function.is_signal_frame;
    return LPM_UNWIND_OK;
}

uintptr_t lpm_unwind_function(const void *code, struct dl_find_object *object)
{
    struct dl_find_object found;
    lpm_unwind_function_t function;

    if (0 != _dl_find_object((void *)(uintptr_t)code, &found)) {
        return 0;
    }
    if (NULL != object) {
        *object = found;
    }
    return find_function(&found, (uintptr_t)code, &function) ? function.begin : 0;
}

#endif
