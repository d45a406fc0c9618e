/** A page in some engine, as far as the tests need it. */
export interface DrivenPage {
  /** The engine's version, from the browser itself. */
  readonly version: string;
  /** Addresses of all requests since the start, as far as the engine's driver reports them. */
  readonly requests: string[];
  /** Errors that the page has logged or not caught, as far as the engine's driver reports them. */
  faults(): Promise<string[]>;
  /** Where the browser saves files. */
  readonly downloads: string;
  goto(address: string): Promise<void>;
  /** Calls a function in the page; arguments and result are JSON. */
  evaluate<R, A extends unknown[]>(body: (...values: A) => R, ...values: A): Promise<Awaited<R>>;
  /** A click as a user does it. */
  click(selector: string): Promise<void>;
  /** Focuses the element and presses a key, with Control held or not. */
  press(selector: string, key: "Enter" | "Escape", held?: "Control"): Promise<void>;
  setWidth(width: number): Promise<void>;
  close(): Promise<void>;
}
