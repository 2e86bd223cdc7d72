// Our methods, typed. Generated from the lexicons by `make docs`: do not edit.
import { Transport } from './transport.ts'
import type { Options } from './transport.ts'


/** Reply of bigworld.account.deletePrivateData. */
export interface DeletePrivateDataOutput {
  /** Number of deleted items and saved searches. */
  deleted: number
}

/** Reply of bigworld.search.explain. */
export interface ExplainOutput {
  uri: string
  /** True if the search shows the record to this viewer. */
  found: boolean
  state: 'searchable' | 'waiting' | 'unknown' | 'noText' | 'accountHidden' | (string & {})
  /** Sentences for people: what keeps the record out, or what placed it. */
  reasons: string[]
  parts: ExplainPart[]
  /** Place among the first results, if it is among them. */
  place?: number
  signals?: ExplainSignals
}

/** Object bigworld.search.explain#part. */
export interface ExplainPart {
  /** A condition of the query, in the search language. */
  part: string
  holds: boolean
  /** Fields that hold the words. */
  fields: string[]
}

/** Object bigworld.search.explain#signals. */
export interface ExplainSignals {
  /** likes + 2 reposts + replies + 2 quotes */
  score: number
  sortAt: string
  /** Languages that the author declared. */
  languages: string[]
  detectedLanguage?: string
}

/** Object bigworld.account.exportPrivateData#item. */
export interface ExportPrivateDataItem {
  kind: 'mute' | 'listMute' | 'threadMute' | 'bookmark' | 'draft' | 'preferences' | 'notificationPreferences' | 'priority' | 'seen' | 'activitySubscription' | 'push' | 'pushed' | (string & {})
  at: string
  value: unknown
}

/** Reply of bigworld.account.exportPrivateData. */
export interface ExportPrivateDataOutput {
  cursor?: string
  items: ExportPrivateDataItem[]
  /** On the first page. */
  savedSearches?: ExportPrivateDataSavedSearch[]
}

/** Object bigworld.account.exportPrivateData#savedSearch. */
export interface ExportPrivateDataSavedSearch {
  query: string
  name: string
  collections: string[]
  savedAt: string
  webhook?: string
}

/** Object bigworld.link.getBacklinkCounts#count. */
export interface GetBacklinkCountsCount {
  source: string
  collection: string
  path: string
  links: number
  accounts: number
  /** True if there are more than were counted. */
  atLeast: boolean
}

/** Reply of bigworld.link.getBacklinkCounts. */
export interface GetBacklinkCountsOutput {
  subject: string
  counts: GetBacklinkCountsCount[]
}

/** Object bigworld.link.getBacklinks#link. */
export interface GetBacklinksLink {
  uri: string
  did: string
  handle?: string
  collection: string
  rkey: string
  /** The place of the link in the record. */
  path: string
  /** The earlier of the record's createdAt and the time of its indexing. */
  sortAt: string
}

/** Reply of bigworld.link.getBacklinks. */
export interface GetBacklinksOutput {
  links: GetBacklinksLink[]
  cursor?: string
}

/** Reply of bigworld.feed.listRecipes. */
export interface ListRecipesOutput {
  recipes: Recipe[]
}

/** Object bigworld.search.listRecords#author. */
export interface ListRecordsAuthor {
  did: string
  /** Absent if it is not verified. */
  handle?: string
}

/** Reply of bigworld.search.listRecords. */
export interface ListRecordsOutput {
  records: ListRecordsRecord[]
  cursor?: string
}

/** Object bigworld.search.listRecords#record. */
export interface ListRecordsRecord {
  uri: string
  cid: string
  value: unknown
  author: ListRecordsAuthor
  /**
   * Time of the first indexing. Absent for records that are one edge, such as likes.
   */
  indexedAt?: string
}

/** Reply of bigworld.search.listSavedSearches. */
export interface ListSavedSearchesOutput {
  searches: SavedSearch[]
}

/** Reply of bigworld.search.putSavedSearch. */
export interface PutSavedSearchOutput {
  search: SavedSearch
  /** Key of the signatures of a new webhook. It is shown once. */
  webhookSecret?: string
}

/** Object bigworld.feed.defs#recipe. */
export interface Recipe {
  /** Address of the feed. Clients find it there once the record is written. */
  uri: string
  name: string
  /** The recipe as it was saved. */
  recipe: string
  /**
   * The app.bsky.feed.generator record to write into the repo of the account, without
   * avatar and createdAt.
   */
  record?: unknown
  savedAt: string
}

/** Object bigworld.feed.recipe#record. */
export interface RecipeRecord {
  /** A recipe as TOML. */
  recipe: string
  /** The provider that serves the feed. Others leave it alone. */
  service: string
  createdAt: string
}

/** Object bigworld.search.defs#savedSearch. */
export interface SavedSearch {
  id: string
  /** A query in the search language. */
  query: string
  name?: string
  collections: string[]
  savedAt: string
  /** Opens the matches of this search to everybody who has it. */
  streamKey: string
  /** Time at which the search had found too much. Save it again to go on. */
  pausedAt?: string
  webhook?: Webhook
}

/** Object bigworld.search.searchRecords#author. */
export interface SearchRecordsAuthor {
  did: string
  /** Absent if it is not verified. */
  handle?: string
}

/** Object bigworld.search.searchRecords#collectionCount. */
export interface SearchRecordsCollectionCount {
  collection: string
  count: number
}

/** Object bigworld.search.searchRecords#facets. */
export interface SearchRecordsFacets {
  /** Number of results that were counted. */
  counted: number
  /** True if these are all results. */
  complete: boolean
  collections: SearchRecordsCollectionCount[]
}

/** Object bigworld.search.searchRecords#hit. */
export interface SearchRecordsHit {
  uri: string
  cid: string
  value: unknown
  author: SearchRecordsAuthor
  /**
   * Time of the first indexing. Absent for records that are one edge, such as likes.
   */
  indexedAt?: string
  snippet?: SearchRecordsSnippet
}

/** Reply of bigworld.search.searchRecords. */
export interface SearchRecordsOutput {
  records: SearchRecordsHit[]
  hitsTotal?: number
  facets?: SearchRecordsFacets
  cursor?: string
}

/** Object bigworld.search.searchRecords#snippet. */
export interface SearchRecordsSnippet {
  /** The part of the searched text with most matches. */
  text: string
  highlights: SearchRecordsSpan[]
}

/** Bytes of the UTF-8 of a snippet. */
export interface SearchRecordsSpan {
  byteStart: number
  byteEnd: number
}

/** Object bigworld.search.subscribeMatches#info. */
export interface SubscribeMatchesInfo {
  name: 'OutdatedCursor' | (string & {})
  message?: string
}

/** Object bigworld.search.subscribeMatches#match. */
export interface SubscribeMatchesMatch {
  /** Number of this match; rises, with gaps. */
  seq: number
  /** ID of the saved search. */
  search: string
  uri: string
  /** CID of the record as it is now. */
  cid: string
  record: unknown
  matchedAt: string
}

/** Object bigworld.search.defs#webhook. */
export interface Webhook {
  url: string
  status: 'active' | 'failing' | 'stopped' | (string & {})
  /** The last failure. */
  error?: string
  /** Time of giving up. Save the search again to go on. */
  stoppedAt?: string
}

export interface ExportPrivateDataInput {
  limit?: number
  cursor?: string
}

/** Methods of bigworld.account. */
export class Account {
  #transport: Transport

  constructor(transport: Transport) {
    this.#transport = transport
  }

  /**
   * Delete everything that bigworld.account.exportPrivateData returns. It cannot be
   * undone.
   */
  deletePrivateData = (): Promise<DeletePrivateDataOutput> =>
    this.#transport.procedure('bigworld.account.deletePrivateData', {})

  /**
   * Everything that this provider keeps about the requesting account and that is in no
   * repo.
   */
  exportPrivateData = (params: ExportPrivateDataInput = {}): Promise<ExportPrivateDataOutput> =>
    this.#transport.query('bigworld.account.exportPrivateData', params)
}

export interface DeleteRecipeInput {
  name: string
}

export interface PutRecipeInput {
  /** A recipe as TOML, or as a JSON object. */
  recipe: string
}

/** Methods of bigworld.feed. */
export class Feed {
  #transport: Transport

  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** Remove a recipe of the account, whose feed ends. An unknown one is no error. */
  deleteRecipe = (params: DeleteRecipeInput): Promise<void> =>
    this.#transport.procedure('bigworld.feed.deleteRecipe', params)

  /** List the recipes of the account. */
  listRecipes = (): Promise<ListRecipesOutput> =>
    this.#transport.query('bigworld.feed.listRecipes', {})

  /**
   * Save the recipe of a feed of the account, in the place of one of the same name. It
   * is served at once.
   */
  putRecipe = (params: PutRecipeInput): Promise<Recipe> =>
    this.#transport.procedure('bigworld.feed.putRecipe', params)
}

export interface GetBacklinkCountsInput {
  /** The target of the links: an AT-URI, a DID or a web address. */
  subject: string
  /**
   * A collection, or a collection and a path, such as app.bsky.feed.like:subject.uri.
   * Arrays are [].
   */
  source?: string
}

export interface GetBacklinksInput {
  /** The target of the links: an AT-URI, a DID or a web address. */
  subject: string
  /**
   * A collection, or a collection and a path, such as app.bsky.feed.like:subject.uri.
   * Arrays are [].
   */
  source?: string
  /** Only records of these accounts. */
  did?: string[]
  limit?: number
  cursor?: string
}

/** Methods of bigworld.link. */
export class Link {
  #transport: Transport

  constructor(transport: Transport) {
    this.#transport = transport
  }

  /**
   * Count the links to a record, an account or a web address, by collection and path.
   */
  getBacklinkCounts = (params: GetBacklinkCountsInput): Promise<GetBacklinkCountsOutput> =>
    this.#transport.query('bigworld.link.getBacklinkCounts', params)

  /** List the records that link to a record, an account or a web address. */
  getBacklinks = (params: GetBacklinksInput): Promise<GetBacklinksOutput> =>
    this.#transport.query('bigworld.link.getBacklinks', params)
}

export interface DeleteSavedSearchInput {
  id: string
}

export interface ExplainInput {
  /** A query, as in app.bsky.feed.searchPosts. */
  q: string
  /** The record. */
  uri: string
  sort?: 'top' | 'latest' | (string & {})
}

export interface ListRecordsInput {
  collection: string
  limit?: number
  cursor?: string
}

export interface PutSavedSearchInput {
  /** The saved search to change. */
  id?: string
  /** A query in the search language, without in: and min_likes:. */
  query: string
  name?: string
  /** Types of records to search; posts by default. */
  collections?: string[]
  /** URL that matches are sent to. Without it, a webhook of this search is removed. */
  webhook?: string
}

export interface SearchRecordsInput {
  /**
   * A query, as in app.bsky.feed.searchPosts; without one, all records that the other
   * parameters select.
   */
  q?: string
  /** Collections to search; without one, every collection. */
  collection?: string[]
  author?: string
  /** A language code, declared or detected. */
  lang?: string
  /** A date or a datetime, inclusive. */
  since?: string
  /** A date or a datetime, exclusive. */
  until?: string
  sort?: 'latest' | 'top' | (string & {})
  /** Count the first results by collection. */
  facets?: boolean
  limit?: number
  cursor?: string
}

export interface SubscribeMatchesInput {
  /** Stream keys of saved searches. */
  key: string[]
  /** The last seen number. Without it the stream begins with the next match. */
  cursor?: number
}

/** Methods of bigworld.search. */
export class Search {
  #transport: Transport

  constructor(transport: Transport) {
    this.#transport = transport
  }

  /**
   * Remove a saved search of the account, with its webhook. An unknown one is no error.
   */
  deleteSavedSearch = (params: DeleteSavedSearchInput): Promise<void> =>
    this.#transport.procedure('bigworld.search.deleteSavedSearch', params)

  /** Explain why a record is, or is not, found by a query, and at which rank. */
  explain = (params: ExplainInput): Promise<ExplainOutput> =>
    this.#transport.query('bigworld.search.explain', params)

  /**
   * List every record of a collection, network-wide, newest indexed first. Records that
   * are one edge, such as likes, are listed account by account.
   */
  listRecords = (params: ListRecordsInput): Promise<ListRecordsOutput> =>
    this.#transport.query('bigworld.search.listRecords', params)

  /** Return the saved searches of the account, at most 100, oldest first. */
  listSavedSearches = (): Promise<ListSavedSearchesOutput> =>
    this.#transport.query('bigworld.search.listSavedSearches', {})

  /**
   * Save a search, or change a saved one. Records that are created or changed from now
   * on are matched.
   */
  putSavedSearch = (params: PutSavedSearchInput): Promise<PutSavedSearchOutput> =>
    this.#transport.procedure('bigworld.search.putSavedSearch', params)

  /** Search records of any collection, network-wide. */
  searchRecords = (params: SearchRecordsInput = {}): Promise<SearchRecordsOutput> =>
    this.#transport.query('bigworld.search.searchRecords', params)

  /**
   * Stream the matches of saved searches. A record that is gone or hidden by now is
   * left out.
   */
  subscribeMatches = (params: SubscribeMatchesInput): AsyncGenerator<SubscribeMatchesMatch | SubscribeMatchesInfo> =>
    this.#transport.subscribe('bigworld.search.subscribeMatches', params)
}

/** A client of one provider, or of a PDS that forwards to it. */
export class Client extends Transport {
  readonly account: Account
  readonly feed: Feed
  readonly link: Link
  readonly search: Search

  constructor(service: string, options: Options = {}) {
    super(service, options)
    this.account = new Account(this)
    this.feed = new Feed(this)
    this.link = new Link(this)
    this.search = new Search(this)
  }
}
