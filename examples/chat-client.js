// A client of the chat API in one file, without dependencies and without a build step. Copy it into your project.
//
// In a page: <script src="chat-client.js"></script>, or import "./chat-client.js" in a module. Both define ChatClient.
// It also runs on Node 20 or later, where its streams use long polling.
//
//     const chat = new ChatClient({base: "https://chat.example.com"});
//     const stream = chat.stream({
//         getTicket: () => fetch("/my/server/chat-ticket").then((answer) => answer.json()),
//         position,                        // of the list that you show: everything after it is delivered
//         onMessage: (message) => show(message),
//         onReset: () => reloadWhatIsShown(),
//         onState: (state) => (badge.textContent = state),
//     });
//
// A token is the key to everything in its application: keep it on your server. A browser needs only a ticket, which your
// server creates (POST /applications/:token/tickets). The methods that take a token are for servers and for trials.
//
// A request is repeated after a 503, a 429 or a broken connection, for at most `patience` seconds. Each POST has an
// Idempotency-Key, the same in every try, so it is one write however often it is sent. Anything else that the server
// refuses is thrown as a ChatClient.ApiError with `status`, `code`, `detail` and `attr`.

"use strict";

{

/** Statuses after which the same request may succeed: rate limits, and temporary errors of a server or proxy. */
const RETRIED = new Set([429, 502, 503, 504]);
/** Milliseconds between two tries without Retry-After: the first wait, doubled each time up to the second. */
const SHORTEST_WAIT = 100, LONGEST_WAIT = 5_000;
/** Milliseconds for one request. A long poll may take this long in addition to its wait. */
const TIMEOUT = 30_000;
/** Seconds that a long poll waits for an event. */
const POLL_SECONDS = 25;
/** Milliseconds in which an EventSource must open. Something in between may hold the stream back. */
const OPENING = 10_000;
/** How often in a row an EventSource may fail to open before long polling takes over, and for how many milliseconds. */
const MAX_FAILURES = 2, POLL_FOR = 300_000;
/** Milliseconds after which a connection is replaced. A dead connection looks the same as a quiet one. */
const LONGEST_CONNECTION = 600_000;
/** Milliseconds before its end at which a ticket is renewed, and the shortest time between two renewals. */
const MARGIN = 30_000, SHORTEST_TICKET = 60_000;

class ApiError extends Error {
    constructor(status, {code, detail, attr}) {
        super(`${status} ${code}: ${detail}${attr ? ` (${attr})` : ""}`);
        Object.assign(this, {name: "ApiError", status, code, detail, attr});
    }
}

/** No final response came in time. A write may have been accepted: repeating it with the same key tells. */
class Unanswered extends Error {}

class ChatClient {
    #base;
    #adminKey;
    #patience;

    /** `adminKey` is for requests that span applications, if the server has one. Never put it into a page. */
    constructor({base = "", adminKey = "", patience = 60} = {}) {
        this.#base = base.replace(/\/+$/, "");
        this.#adminKey = adminKey;
        this.#patience = patience * 1_000;
    }

    // Applications, chats and messages. `key` is an Idempotency-Key of your own, to repeat a request after a restart.

    createApplication(name, {key} = {}) {
        return this.#post("/applications", {name}, key, true);
    }

    application(token) {
        return this.#json("GET", `/applications/${token}`);
    }

    createChat(token, title, {key} = {}) {
        return this.#post(`/applications/${token}/chats`, {title}, key);
    }

    renameChat(token, number, title) {
        return this.#json("PATCH", `/applications/${token}/chats/${number}`, {title});
    }

    createMessage(token, chat, body, {key} = {}) {
        return this.#post(`/applications/${token}/chats/${chat}/messages`, {body}, key);
    }

    changeMessage(token, chat, number, body) {
        return this.#json("PATCH", `/applications/${token}/chats/${chat}/messages/${number}`, {body});
    }

    // Lists. Each resolves to {results, next, previous, position}. `page` follows `next` and `previous`. A stream that
    // begins at `position`, of the first page, delivers all that the list does not show. It may repeat what the list
    // shows: of two versions keep the one with the greater last_request_time.

    /** `params`: limit, after, before, order. */
    chats(token, params = {}) {
        return this.page(`/applications/${token}/chats?${new URLSearchParams(params)}`);
    }

    messages(token, chat, params = {}) {
        return this.page(`/applications/${token}/chats/${chat}/messages?${new URLSearchParams(params)}`);
    }

    /** `params`: application, chat, limit. A hit's `highlight` is HTML: show it with `highlightParts`. */
    search(query, params = {}) {
        const path = `/search/${encodeURIComponent(query)}?${new URLSearchParams(params)}`;
        return this.page(path, !("application" in params));
    }

    async page(link, admin = false) {
        // A link has the host that the server sees. Behind a proxy it may differ from ours.
        const {pathname, search} = new URL(link, "http://here");
        const response = await this.#request("GET", pathname + search, null, {}, admin);
        return {...response.body, position: response.headers.get("Stream-Position")};
    }

    /** Splits a highlight into [text, isMatch] pairs, to be shown as text. No HTML is ever parsed. */
    static highlightParts(highlight) {
        const characters = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#x27;": "'"};
        const text = (part) => part.replace(/&(?:amp|lt|gt|quot|#x27);/g, (name) => characters[name]);
        return highlight.split(/<\/?em>/).map((part, index) => [text(part), index % 2 === 1]).filter(([part]) => part);
    }

    // Live

    /** Resolves to {ticket, expires_at}. `params`: chats (numbers; absent: the whole application), ttl (seconds). */
    createTicket(token, params = {}) {
        return this.#post(`/applications/${token}/tickets`, params);
    }

    /**
     * Delivers everything that is written after `position` (default: from now on), and reconnects until it is closed.
     *
     * Returns {close(), position, state}. `ticket` is a ticket's text. `getTicket` resolves to {ticket, expires_at}, and
     * is called again before the ticket ends. `eventSource: null` always uses long polling, for networks that hold
     * streams back.
     *
     * - onMessage(message, position), onChat(chat, position): the newest version. Replaced ones may be left out.
     * - onReset(position): events may be missing, or were taken back. Forget what you show and load it again.
     * - onState(state, error): "connecting", "live", "polling" (live by long polling), "reconnecting", or "closed": by
     *   you, or because the server refused for good with `error`.
     */
    stream(options) {
        return new Stream(this.#base, options);
    }

    // Requests

    #post(path, data, key, admin = false) {
        return this.#json("POST", path, data, {"Idempotency-Key": key ?? newKey()}, admin);
    }

    async #json(method, path, data, headers, admin) {
        return (await this.#request(method, path, data, headers, admin)).body;
    }

    async #request(method, path, data, headers = {}, admin = false) {
        const body = data && JSON.stringify(data);
        const sent = {Accept: "application/json", ...headers};
        if (body) sent["Content-Type"] = "application/json";
        if (admin && this.#adminKey) sent.Authorization = `Bearer ${this.#adminKey}`;
        const deadline = Date.now() + this.#patience;
        for (let wait = SHORTEST_WAIT; ; wait = Math.min(wait * 2, LONGEST_WAIT)) {
            const response = await ask(this.#base + path, {method, body, headers: sent});
            if (response.ok) return response;
            if (response.status && !RETRIED.has(response.status)) throw apiError(response);
            const pause = response.wait ?? jittered(wait);
            if (Date.now() + pause > deadline) throw new Unanswered(`${method}: no answer in time`);
            await new Promise((resume) => setTimeout(resume, pause));
        }
    }
}

Object.assign(ChatClient, {ApiError, Unanswered});

class Stream {
    #base;
    #options;
    #position;
    #state = "";
    #aborted = new AbortController();
    /** Ends the wait, or the connection, that is in progress. */
    #proceed = () => {};
    #online = () => this.#proceed();
    #ticket = {text: "", renewAt: 0};
    /** How often in a row an EventSource did not open, and until when long polling replaces it. */
    #failures = 0;
    #pollUntil = 0;

    constructor(base, options) {
        this.#base = base;
        this.#options = {eventSource: globalThis.EventSource, ...options};
        this.#position = options.position ?? "";
        // The network is back: whatever is open may be dead, and whoever waits need not.
        globalThis.addEventListener?.("online", this.#online);
        this.#run();
    }

    /** Where a new stream would continue. */
    get position() {
        return this.#position;
    }

    get state() {
        return this.#state;
    }

    close() {
        this.#end();
    }

    get #closed() {
        return this.#aborted.signal.aborted;
    }

    #end(error) {
        if (this.#closed) return;
        this.#aborted.abort();
        globalThis.removeEventListener?.("online", this.#online);
        this.#proceed();
        this.#tell("closed", error);
    }

    #tell(state, error) {
        if (state === this.#state) return;
        this.#state = state;
        guarded(this.#options.onState, state, error);
    }

    async #run() {
        // The caller has the stream before the first callback.
        await null;
        this.#tell("connecting");
        for (let wait = SHORTEST_WAIT; !this.#closed; ) {
            const pause = await this.#connect();
            if (pause === undefined) {
                wait = SHORTEST_WAIT;
            } else if (!this.#closed) {
                this.#tell("reconnecting");
                await this.#until((done) => later(done, pause || jittered(wait)));
                wait = Math.min(wait * 2, LONGEST_WAIT);
            }
        }
    }

    /** Delivers events until the connection ends. Resolves to the milliseconds to wait after a failure, 0 if unknown. */
    async #connect() {
        const polling = !this.#options.eventSource || Date.now() < this.#pollUntil;
        try {
            const ticket = await this.#validTicket();
            // First a poll that does not wait, also for an EventSource. It tells the position, which an EventSource hides
            // in heartbeats, and it tells why a stream is refused, which an EventSource hides as well.
            const response = await this.#poll(ticket, polling && this.#state === "polling" ? POLL_SECONDS : 0);
            if (this.#closed) return undefined;
            if (response.status === 401) return this.#refuse(ticket, response);
            if (!response.status || RETRIED.has(response.status)) return response.wait ?? 0;
            if (!response.ok) throw apiError(response);
            for (const {event, id, data} of response.body.events) this.#deliver(event, data, id);
            this.#position = response.body.position;
            if (polling) this.#tell("polling");
            else if (!await this.#listen(ticket)) return 0;
        } catch (error) {
            // Not for good: whatever getTicket needs may be back later.
            if (!(error.status >= 400 && error.status < 500) || error.status === 429) return 0;
            this.#end(error);
        }
        return undefined;
    }

    async #validTicket() {
        if (!this.#options.getTicket) return this.#options.ticket;
        if (Date.now() >= this.#ticket.renewAt) {
            const {ticket, expires_at} = await this.#options.getTicket();
            // A clock that is wrong must not renew all the time. A ticket that ends earlier is refused and renewed then.
            const life = Math.max(Date.parse(expires_at) - Date.now() - MARGIN || 0, SHORTEST_TICKET);
            this.#ticket = {text: ticket, renewAt: Date.now() + life};
        }
        return this.#ticket.text;
    }

    /** A ticket has ended, or is bad. Throws if there is no other. */
    #refuse(ticket, response) {
        if (!this.#options.getTicket) throw apiError(response);
        this.#ticket.renewAt = 0;
        // Waits, so that a getTicket that returns bad tickets is not asked all the time.
        return 0;
    }

    #poll(ticket, wait) {
        const headers = {Accept: "application/json"};
        return ask(this.#url(ticket, {wait}), {headers, signal: this.#aborted.signal}, TIMEOUT + wait * 1_000);
    }

    #url(ticket, params) {
        const after = this.#position ? {after: this.#position} : {};
        return `${this.#base}/events?${new URLSearchParams({ticket, ...after, ...params})}`;
    }

    /** Listens until it is time for another connection. Resolves to whether the EventSource has opened. */
    async #listen(ticket) {
        let opened = false;
        await this.#until((done) => {
            const source = new this.#options.eventSource(this.#url(ticket, {}));
            const opening = later(done, OPENING);
            const renewAt = this.#options.getTicket ? this.#ticket.renewAt : Infinity;
            const renewal = later(done, Math.min(renewAt - Date.now(), LONGEST_CONNECTION));
            source.onopen = () => {
                opening();
                opened = true;
                this.#failures = 0;
                this.#tell("live");
            };
            // It reconnects by itself, with the last position, unless the answer was not a stream.
            source.onerror = () => (source.readyState === 2 ? done() : this.#tell("reconnecting"));
            for (const kind of ["message", "chat", "reset"]) {
                source.addEventListener(kind, (event) => this.#deliver(kind, JSON.parse(event.data), event.lastEventId));
            }
            return () => {
                opening();
                renewal();
                source.close();
            };
        });
        if (!opened && !this.#closed && ++this.#failures >= MAX_FAILURES) {
            this.#failures = 0;
            this.#pollUntil = Date.now() + POLL_FOR;
        }
        return opened;
    }

    #deliver(kind, data, position) {
        if (this.#closed) return;
        const {onMessage, onChat, onReset} = this.#options;
        this.#position = kind === "reset" ? data.position : position;
        if (kind === "reset") guarded(onReset, this.#position);
        else if (kind === "message") guarded(onMessage, data, position);
        else if (kind === "chat") guarded(onChat, data, position);
    }

    /** Resolves when what `begin` has begun calls `done`, or when the stream is closed. `begin` returns how to end it. */
    async #until(begin) {
        if (this.#closed) return;
        let end;
        await new Promise((resolve) => {
            this.#proceed = resolve;
            end = begin(resolve);
        });
        this.#proceed = () => {};
        end();
    }
}

/** Returns the response with its parsed `body` and `wait` (Retry-After in milliseconds). Its status is 0 if none came. */
async function ask(url, options, timeout = TIMEOUT) {
    const aborted = new AbortController();
    const abort = () => aborted.abort();
    options.signal?.addEventListener("abort", abort);
    const cancel = later(abort, timeout);
    try {
        const response = await fetch(url, {...options, signal: aborted.signal});
        const text = await response.text();
        const seconds = response.headers.get("Retry-After");
        const {ok, status, headers} = response;
        // An error may come from a proxy, which has its own format.
        const body = ok ? JSON.parse(text) : parsed(text);
        return {ok, status, headers, body, wait: /^\d+$/.test(seconds) ? seconds * 1_000 : undefined};
    } catch {
        return {ok: false, status: 0};
    } finally {
        cancel();
        options.signal?.removeEventListener("abort", abort);
    }
}

function parsed(text) {
    try {
        return JSON.parse(text);
    } catch {
        return null;
    }
}

function apiError({status, body}) {
    return new ApiError(status, body?.errors?.[0] ?? {code: "unknown", detail: "not an answer of the API"});
}

/** Calls a callback. What it throws is reported as an uncaught error, and does not stop the stream. */
function guarded(callback, ...values) {
    try {
        callback?.(...values);
    } catch (error) {
        setTimeout(() => { throw error; });
    }
}

/** Calls it later. Returns how to cancel that. */
function later(call, milliseconds) {
    const timer = setTimeout(call, milliseconds);
    return () => clearTimeout(timer);
}

/** Jitter, so that clients that were rejected together do not return together. */
function jittered(milliseconds) {
    return milliseconds * (1 + Math.random() / 2);
}

/** Not crypto.randomUUID, which a page has only over HTTPS and on localhost. */
function newKey() {
    return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

globalThis.ChatClient = ChatClient;

}
