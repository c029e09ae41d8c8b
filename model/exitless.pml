/*
 * The handshake of exitless hypercalls, for spin. See README.md here for what is checked and what is not.
 *
 * A guard that names a time-out's state alone stands for "it lasted past its limit": the limit may pass at any
 * moment. Polls that change nothing take no step, so a run without end would be a cycle of real work.
 */

#ifndef N
#define N 3 /* hypercalls that the guest makes, before HALT */
#endif

#define DONE 0
#define REQUEST 1
#define BUSY 2
#define RETRY 3
#define STATE(w) ((w) & 3)
#define WORD(gpa, state) ((gpa) << 2 | (state))

#define CALL 0 /* a real hypercall; "timed out" is one as well */
#define SYNC 1 /* only sleep until the poller is through */
#define HALT 2

#define NOBODY 0
#define POLLER 1
#define VCPU 2

/* Shared with the guest. Two calls may use one address: a word alone does not tell calls apart. */
byte word;
bool advice;    /* a hint: the poller sleeps */
byte args[2];   /* guest memory at each gpa: which call this is, from 1 */
byte answer[2]; /* and what the host wrote there */

/* The host's own. */
bool lock_h;
bool asleep;  /* the futex word */
bool waiting; /* the kernel's queue of that futex */
bool running; /* some thread runs a hypercall */
byte spurious;
byte served[N + 1];
byte by[N + 1];

chan leave = [0] of { byte, byte }; /* an exit: its kind and its gpa */
chan resume = [0] of { bool };

inline lock() { atomic { !lock_h -> lock_h = true } }
inline unlock() { lock_h = false }

inline hypercall(gpa, who) {
    atomic {
        assert(!running);
        running = true;
        id = args[gpa]
    }
    atomic {
        served[id]++;
        by[id] = who;
#ifndef HOSTILE
        assert(served[id] == 1);
#endif
        answer[gpa] = id;
        running = false
    }
}

inline out(kind, gpa) {
    leave ! kind, gpa;
    resume ? _
}

/* The guest's stub and trampoline. */
active proctype guest() {
    byte call = 1, gpa;
    bool cancelled, retried;
#ifdef HOSTILE
    byte value;
    do
    :: call > N -> break
    :: call <= N ->
        call++;
        select (value : 0 .. 7);
        if
        :: word = value
        :: leave ! CALL, value >> 2 -> resume ? _
        :: leave ! SYNC, 0 -> resume ? _
        fi
    od
#else
    do
    :: call > N -> break
    :: call <= N ->
        if
        :: gpa = 0
        :: gpa = 1
        fi;
        answer[gpa] = 0;
        args[gpa] = call;
        retried = false;
        if
        :: out(CALL, gpa); goto answered /* the advice: asleep, or without a CPU */
#ifdef ANY_ADVICE
        :: skip
#else
        :: !advice
#endif
        fi;
        atomic {
            assert(STATE(word) == DONE || STATE(word) == RETRY);
            word = WORD(gpa, REQUEST)
        }
#ifdef LOOK_AFTER
        if
        :: advice -> goto cancel
        :: !advice
        fi;
#endif
wait:
        if
        :: STATE(word) == DONE
        :: STATE(word) == RETRY ->
            retried = true;
#ifndef RETRY_IS_DONE
            out(CALL, gpa)
#endif
#ifndef NO_LIMIT
        :: STATE(word) == REQUEST -> goto cancel
#endif
        :: STATE(word) == BUSY ->
            out(SYNC, 0);
            assert(STATE(word) == DONE || STATE(word) == RETRY);
            goto wait
        fi;
        goto answered;
cancel:
#ifdef CANCEL_BY_STORE
        cancelled = true;
        word = DONE;
#else
        atomic {
            cancelled = (word == WORD(gpa, REQUEST));
            if
            :: cancelled -> word = DONE
            :: else
            fi
        }
#endif
        if
        :: cancelled -> out(CALL, gpa)
        :: else -> goto wait
        fi;
answered:
        assert(served[call] == 1);
        assert(answer[gpa] == call);
        assert(!retried || by[call] == VCPU);
        call++
    od;
#endif
    leave ! HALT, 0
}

/* The thread that runs the virtual processor, and serves each exit itself. */
active proctype vcpu() {
    byte kind, gpa, id;
end:
    do
    :: leave ? kind, gpa ->
#ifndef NO_LOCK
        lock();
#endif
        if
        :: kind == CALL -> hypercall(gpa, VCPU)
        :: kind == SYNC
        :: kind == HALT -> unlock(); break
        fi;
#ifndef NO_LOCK
        unlock();
#endif
        if
#ifndef NO_WAKE
        :: asleep -> /* the credit says: wake it */
            asleep = false;
            waiting = false
#endif
        :: true
        fi;
        resume ! true
    od
}

/* The thread that serves requests from the word. */
active proctype poller() {
    byte seen, id;
    bool got;
poll:
    if
    :: atomic { STATE(word) == REQUEST -> seen = word } goto take
    :: atomic { STATE(word) != REQUEST -> skip } /* idle for SPIN */
    fi;
#ifdef NEVER_SLEEP
    goto poll;
#endif
#ifdef NO_FENCE
    seen = word; /* a load that passes the two stores */
#endif
    asleep = true;
    advice = true;
#ifdef NO_SECOND_LOOK
    seen = DONE;
#endif
#if !defined(NO_FENCE) && !defined(NO_SECOND_LOOK)
    seen = word;
#endif
    if
    :: STATE(seen) == REQUEST ->
        asleep = false;
        advice = false;
        goto take
    :: else
    fi;
    atomic { waiting = asleep } /* futex_wait: sleeps only if the word is still 1 */
end_asleep:
    if
    :: !waiting
    :: atomic { waiting && spurious < 1 -> spurious++; waiting = false }
    fi;
    asleep = false;
    advice = false;
    goto poll;
take:
    lock();
#ifdef SERVE_WITHOUT_CAS
    got = true;
    word = WORD(seen >> 2, BUSY);
#else
    atomic {
        got = (word == seen);
        if
        :: got -> word = WORD(seen >> 2, BUSY)
        :: else
        fi
    }
#endif
    if
    :: got ->
        if
        :: hypercall(seen >> 2, POLLER);
           word = WORD(seen >> 2, DONE)
        :: word = WORD(seen >> 2, RETRY) /* it would sleep */
        fi
    :: else
    fi;
    unlock();
    goto poll
}
