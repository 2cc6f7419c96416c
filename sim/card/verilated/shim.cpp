// Runs a Verilated card: frames on its Ethernet ports, host memory behind its bus, registers.
//
// One call runs many cycles. Per cycle: pins get the next column of the frame that is being sent,
// words are written to and read from host memory in place, and what leaves the order port is put
// together to frames. WIDTH is the number of bytes of a beat: 1 for GMII, 8 for XGMII.

#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "Vcard.h"
#include "verilated.h"
#ifdef TRACE
#include "verilated_vcd_c.h"
#endif

namespace {

constexpr int PORTS = 3;       // Lines A and B, order entry.
constexpr int READ_CYCLES = 8; // From a question to host memory to its first word.
constexpr uint64_t RECORD_WORDS = 8;

uint32_t crc32(const uint8_t* bytes, size_t size) {
    static uint32_t table[256];
    if (!table[1]) {
        for (uint32_t i = 0; i < 256; ++i) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0xEDB88320u : 0);
            table[i] = value;
        }
    }
    uint32_t crc = ~0u;
    for (size_t i = 0; i < size; ++i) crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 0xFF];
    return ~crc;
}

using Bytes = std::vector<uint8_t>;

uint64_t load(const uint32_t* words, int at) {
    return words[at] | static_cast<uint64_t>(words[at + 1]) << 32;
}

// What a frame is on the wire, one entry a cycle: data in the low bits, then control.
struct Column {
    uint64_t data;
    uint8_t control;
};

#if WIDTH == 8
constexpr Column IDLE{0x0707070707070707u, 0xFF};

void encode(const Bytes& frame, std::deque<Column>& columns) {
    Bytes data{0xFB, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0xD5}, control{1, 0, 0, 0, 0, 0, 0, 0};
    data.insert(data.end(), frame.begin(), frame.end());
    control.resize(data.size(), 0);
    data.push_back(0xFD);
    control.push_back(1);
    // The gap, a column more where its end is not one of a column. [IEEE 802.3: 46.2.1]
    size_t end = (data.size() + 11 + 7) / 8 * 8;
    data.resize(end, 0x07);
    control.resize(end, 1);
    for (size_t at = 0; at < end; at += 8) {
        Column column{0, 0};
        for (int lane = 0; lane < 8; ++lane) {
            column.data |= static_cast<uint64_t>(data[at + lane]) << 8 * lane;
            column.control |= control[at + lane] << lane;
        }
        columns.push_back(column);
    }
}
#else
constexpr Column IDLE{0, 0};

void encode(const Bytes& frame, std::deque<Column>& columns) {
    for (int i = 0; i < 7; ++i) columns.push_back({0x55, 1});
    columns.push_back({0xD5, 1});
    for (uint8_t byte : frame) columns.push_back({byte, 1});
    columns.insert(columns.end(), 12, IDLE);
}
#endif

struct Question {
    uint64_t due, address;
    uint32_t words;
};

class Card {
  public:
    Card(uint8_t* memory, uint64_t memory_size, uint64_t period_ps)
        : memory(memory), memory_size(memory_size), period_ps(period_ps) {
        context.traceEverOn(true);
        idle_pins();
        reset();
    }

    ~Card() {
        stop_trace();
        top.final();
    }

    void reset() {
        top.rst = 1;
        for (int i = 0; i < 4; ++i) cycle();
        top.rst = 0;
        for (auto& columns : incoming) columns.clear();
        questions.clear();
        collected.clear();
        collecting = false;
    }

    // A frame without its check sequence.
    void frame(int port, const uint8_t* bytes, size_t size) {
        Bytes whole(bytes, bytes + size);
        if (whole.size() < 60) whole.resize(60, 0);
        uint32_t crc = crc32(whole.data(), whole.size());
        for (int i = 0; i < 4; ++i) whole.push_back(crc >> 8 * i & 0xFF);
        encode(whole, incoming[port]);
    }

    // Run; with `quiet`, stop when nothing has moved for so many cycles. Returns cycles run.
    uint64_t run(uint64_t cycles, uint64_t quiet) {
        uint64_t begin = now, still = 0;
        while (now - begin < cycles && (!quiet || still < quiet)) {
            bool moves = cycle();
            still = moves ? 0 : still + 1;
        }
        return now - begin;
    }

    bool running() const { return top.running; }

    void write(uint32_t address, uint64_t value) {
        top.csr_address = address;
        top.csr_write_data = value;
        top.csr_write_stb = 1;
        cycle();
        top.csr_write_stb = 0;
    }

    uint64_t read(uint32_t address) {
        top.csr_address = address;
        top.csr_read_stb = 1;
        cycle();
        top.csr_read_stb = 0;
        for (int i = 0; i < 16 && !top.csr_read_valid; ++i) cycle();
        return top.csr_read_data;
    }

    // Draw the cycles from `begin` on and before `end`.
    bool draw(const char* path, uint64_t begin, uint64_t end) {
#ifdef TRACE
        trace_begin = begin;
        trace_end = end;
        trace = std::make_unique<VerilatedVcdC>();
        top.trace(trace.get(), 99);
        trace->open(path);
        return trace->isOpen();
#else
        (void)path, (void)begin, (void)end;
        return false;
#endif
    }

    void stop_trace() {
#ifdef TRACE
        if (trace) trace->close();
        trace.reset();
#endif
    }

    // Write every signal's value as it is now.
    bool snapshot(const char* path) {
#ifdef TRACE
        VerilatedVcdC now_only;
        top.trace(&now_only, 99);
        now_only.open(path);
        if (!now_only.isOpen()) return false;
        now_only.dump(now * 10);
        now_only.close();
        return true;
#else
        (void)path;
        return false;
#endif
    }

    uint8_t* memory;
    uint64_t memory_size, faults = 0;
    uint64_t now = 0, time_ns = 0, time_fraction = 0, period_ps;
    // Commands behind this one are not seen yet: they are on their way to the card.
    uint64_t commands_at = 0, commands_end = 0, commands_visible = ~0ull;
    std::deque<Bytes> sent;

  private:
    void idle_pins() {
        for (int port = 0; port < PORTS; ++port) show(port, IDLE);
    }

    void show(int port, const Column& column) {
#if WIDTH == 8
        QData* data[] = {&top.lines_0_rxd, &top.lines_1_rxd, &top.order_rx_rxd};
        CData* control[] = {&top.lines_0_rxc, &top.lines_1_rxc, &top.order_rx_rxc};
        *data[port] = column.data;
#else
        CData* data[] = {&top.lines_0_rxd, &top.lines_1_rxd, &top.order_rx_rxd};
        CData* control[] = {&top.lines_0_rx_dv, &top.lines_1_rx_dv, &top.order_rx_rx_dv};
        *data[port] = static_cast<CData>(column.data);
#endif
        *control[port] = column.control;
    }

    // One cycle. Returns whether anything moved at the card's edges.
    bool cycle() {
        bool moves = false;
        for (int port = 0; port < PORTS; ++port) {
            auto& columns = incoming[port];
            if (!columns.empty()) {
                show(port, columns.front());
                columns.pop_front();
                moves = true;
                if (columns.empty()) last_column[port] = true;
            } else if (last_column[port]) {
                show(port, IDLE);
                last_column[port] = false;
            }
        }
        top.time = time_ns;
        time_fraction += period_ps;
        time_ns += time_fraction / 1000;
        time_fraction %= 1000;
        answer();
        top.o_write_beat_ready = 1;
        top.o_read_ask_ready = 1;
        top.o_write_done_stb = write_done;
        top.clk = 0;
        top.eval();
        moves |= take();
        top.clk = 1;
        top.eval();
#ifdef TRACE
        if (trace && now >= trace_begin && now < trace_end) trace->dump(now * 10);
#endif
        moves |= collect();
        ++now;
        return moves;
    }

    // The word that host memory answers in this cycle.
    void answer() {
        top.o_read_beat_valid = 0;
        if (questions.empty() || questions.front().due > now) return;
        auto& question = questions.front();
        uint64_t word = 0;
        if (question.address + 8 <= memory_size) {
            std::memcpy(&word, memory + question.address, 8);
            // A command that is on its way has no sequence number yet.
            uint64_t place = question.address - commands_at;
            bool is_last = place / 8 % RECORD_WORDS == RECORD_WORDS - 1;
            if (question.address >= commands_at && question.address < commands_end && is_last &&
                word > commands_visible)
                word = 0;
        } else {
            ++faults;
        }
        top.o_read_beat_valid = 1;
        top.o_read_beat_payload[0] = static_cast<uint32_t>(word);
        top.o_read_beat_payload[1] = static_cast<uint32_t>(word >> 32);
        top.o_read_beat_payload[2] = question.words == 1;
        question.address += 8;
        if (--question.words == 0) questions.pop_front();
    }

    // What the bus says in this cycle.
    bool take() {
        bool moves = false;
        write_done = 0;
        if (top.o_write_beat_valid) {
            const uint32_t* beat = top.o_write_beat_payload;
            uint64_t address = load(beat, 0), word = load(beat, 2);
            uint32_t enable = beat[4] & 0xFF;
            if (address + 8 <= memory_size && enable == 0xFF) {
                // In one store: another process may be reading it.
                std::memcpy(memory + address, &word, 8);
            } else if (address + 8 <= memory_size) {
                for (int lane = 0; lane < 8; ++lane)
                    if (enable >> lane & 1) memory[address + lane] = word >> 8 * lane & 0xFF;
            } else {
                ++faults;
            }
            write_done = beat[4] >> 8 & 1;
            moves = true;
        }
        if (top.o_read_ask_valid) {
            const uint32_t* ask = top.o_read_ask_payload;
            questions.push_back({now + READ_CYCLES, load(ask, 0), ask[2]});
        }
        return moves;
    }

    // Put together what leaves the order port.
    bool collect() {
#if WIDTH == 8
        uint64_t data = top.order_tx_txd;
        uint8_t control = top.order_tx_txc;
        for (int lane = 0; lane < 8; ++lane) {
            uint8_t byte = data >> 8 * lane & 0xFF;
            bool is_control = control >> lane & 1;
            if (is_control && byte == 0xFB) {
                collecting = true;
                collected.clear();
            } else if (is_control && collecting) {
                end_of_frame();
            } else if (collecting) {
                collected.push_back(byte);
            }
        }
        return collecting;
#else
        if (top.order_tx_tx_en) {
            collecting = true;
            collected.push_back(top.order_tx_txd);
        } else if (collecting) {
            end_of_frame();
        }
        return collecting;
#endif
    }

    void end_of_frame() {
        collecting = false;
        size_t start = 0;
        while (start < collected.size() && collected[start] != 0xD5) ++start;
        Bytes whole(collected.begin() + (start < collected.size() ? start + 1 : start), collected.end());
        collected.clear();
        if (whole.size() < 64 || crc32(whole.data(), whole.size()) != 0x2144DF1Cu) {
            ++faults; // The check sequence leaves this remainder. [IEEE 802.3: 3.2.9]
            return;
        }
        whole.resize(whole.size() - 4);
        sent.push_back(std::move(whole));
    }

    VerilatedContext context;
    Vcard top{&context};
    std::deque<Column> incoming[PORTS];
    bool last_column[PORTS] = {};
    std::deque<Question> questions;
    uint8_t write_done = 0;
    Bytes collected;
    bool collecting = false;
#ifdef TRACE
    std::unique_ptr<VerilatedVcdC> trace;
    uint64_t trace_begin = 0, trace_end = 0;
#endif
};

} // namespace

extern "C" {
Card* card_new(uint8_t* memory, uint64_t size, uint64_t period_ps) {
    return new Card(memory, size, period_ps);
}
void card_delete(Card* card) { delete card; }
void card_reset(Card* card) { card->reset(); }
void card_frame(Card* card, int port, const uint8_t* bytes, uint64_t size) {
    card->frame(port, bytes, size);
}
uint64_t card_run(Card* card, uint64_t cycles, uint64_t quiet) { return card->run(cycles, quiet); }
void card_write(Card* card, uint32_t address, uint64_t value) { card->write(address, value); }
uint64_t card_read(Card* card, uint32_t address) { return card->read(address); }
int card_running(Card* card) { return card->running(); }
uint64_t card_cycle(Card* card) { return card->now; }
uint64_t card_time(Card* card) { return card->time_ns; }
void card_set_time(Card* card, uint64_t ns) { card->time_ns = ns; }
uint64_t card_faults(Card* card) { return card->faults; }
void card_commands(Card* card, uint64_t at, uint64_t end, uint64_t visible) {
    card->commands_at = at;
    card->commands_end = end;
    card->commands_visible = visible;
}
// Copy the oldest frame that was sent, and forget it. Returns its size; 0 when there is none.
uint64_t card_sent(Card* card, uint8_t* bytes, uint64_t size) {
    if (card->sent.empty()) return 0;
    auto& frame = card->sent.front();
    uint64_t length = frame.size();
    if (length > size) return length;
    std::memcpy(bytes, frame.data(), length);
    card->sent.pop_front();
    return length;
}
int card_trace(Card* card, const char* path, uint64_t begin, uint64_t end) {
    return card->draw(path, begin, end);
}
int card_snapshot(Card* card, const char* path) { return card->snapshot(path); }
}
