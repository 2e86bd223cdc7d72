export * from './methods.ts'
export { XrpcError, readPages } from './transport.ts'
export type { Options } from './transport.ts'
